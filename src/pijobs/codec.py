"""Turns a job call into the two byte strings that are stored, and back. No pickle: data never becomes code.

*Envelope*: a msgpack array ``[version, key id, instance id, job name, created, deadline, queue, generation]`` (times in
ms on the storage's clock), in clear. *Body*: a msgpack array ``[args, kwargs, label]``, encrypted with AES-256-GCM, the
envelope as associated data; so neither can be changed, nor a body moved to another envelope, without being noticed. The
name of the queue keeps a body from being moved to another queue with the same keys; the generation grows when the body
is replaced, so that an older body does not fit any more. Version 1, of release 0.1.0, has neither of the two.

Values are what msgpack knows (None, bool, int, float, str, bytes, list, dict with text or whole-number keys), and, as
extension types: tuple, set, frozenset, datetime (with zone and fold), date, Decimal, UUID, integers beyond 64 bits, and
messages of :mod:`email.message`. A message comes back as :class:`~email.message.EmailMessage` or
:class:`~email.message.Message` with the same bytes on the wire.
"""

from __future__ import annotations

import datetime as dt
import email.message
import email.parser
import email.policy
import re
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from pijobs import moments
from pijobs.errors import Damaged, DecodeError, EncodeError
from pijobs.keys import KeyRing
from pijobs.redact import redact

#: The version of envelopes that all releases can read which may work on a storage, by its protocol.
_FIRST_VERSION, VERSION, _PROTOCOL_OF_VERSION = 1, 2, 3

_pack = msgspec.msgpack.Encoder().encode
_MAX_DEPTH = 50
_MOST_KEYS = 8
_UNCHANGED = frozenset({type(None), bool, float, bytes})
_NAMES = frozenset({str})
_SIMPLE = _UNCHANGED | {str, int}
_CONTAINERS = _SIMPLE | {list, dict}
# Headers stay folded as they were stored: a signature may cover them.
_POLICY = email.policy.default.clone(refold_source="none")


class _Stored(str):
    """The value of a header as it was stored, folds included."""

    __slots__ = ()


class _Compat(email.policy.Compat32):
    """The same for legacy messages, whose policy would fold stored headers anew."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, _Stored(value)

    def header_fetch_parse(self, name: str, value: str) -> Any:
        found = super().header_fetch_parse(name, value)
        return str(found) if isinstance(found, _Stored) else found

    def fold_binary(self, name: str, value: str) -> bytes:
        if isinstance(value, _Stored):
            lines = re.split(r"\r\n|\r|\n", f"{name}: {value}")
            return "".join(line + self.linesep for line in lines).encode("ascii", "surrogateescape")
        return super().fold_binary(name, value)


_UTF8_POLICY = _POLICY.clone(utf8=True)
_COMPAT = _Compat()


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """What is known of an instance without a key."""

    version: int
    key_id: str
    id: str
    name: str
    created: int
    deadline: int | None


class BoundEnvelope(Envelope, frozen=True, array_like=True):
    """Of version 2: it belongs to one queue, and to one body."""

    queue: str
    generation: int


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one call, and its masked label for people."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    label: str | None = None
    #: What it came in, once it is decoded.
    envelope: Envelope | None = field(default=None, compare=False)


class Codec:
    """Encodes with the newest key, decodes with any.

    :param queue: name of the queue that it is for.
    :param protocol: of the storage that it is for, see :mod:`pijobs.storage.protocol`; asked at each encoding.
    :param max_size: bytes of the largest body; None: no bound.
    """

    def __init__(
        self,
        keys: KeyRing,
        queue: str = "",
        protocol: Callable[[], int] = lambda: 0,
        *,
        max_size: int | None = None,
    ) -> None:
        self._keys = keys
        self._queue = queue
        self._protocol = protocol
        self._max_size = max_size
        #: By key id, when the newest of what was decoded here (or could not be) was enqueued under another key than the
        #: newest (ms): some server still encrypts with that one. Of strangers' ids, a few.
        self.other_keys: dict[str, int] = {}

    def encode(self, *, id: str, name: str, call: Call, created: int, deadline: int | None) -> tuple[bytes, bytes]:
        """Envelope and body.

        :raises EncodeError: with the path of the first value that can't be encoded, or if the body is too large.
        """
        return self._seal(Envelope(_FIRST_VERSION, "", id, name, created, deadline), self._packed(call))

    def reencode(self, envelope: bytes, call: Call) -> tuple[bytes, bytes]:
        """Envelope and body for the next attempt with other arguments. By the key that there is: whoever runs the next
        attempt has that one."""
        opened = open_envelope(envelope)
        if isinstance(opened, BoundEnvelope):
            envelope = _pack(msgspec.structs.replace(opened, generation=opened.generation + 1))
        return envelope, self._keys.get(opened.key_id).encrypt(self._packed(call), envelope)

    def reseal(self, envelope: bytes, body: bytes) -> tuple[bytes, bytes]:
        """The same under the newest key, and of the version that the storage wants now.

        :raises DecodeError: it can't be decoded.
        """
        opened = open_envelope(envelope)
        return self._seal(opened, self._plain(opened, envelope, body))

    def _seal(self, opened: Envelope, plain: bytes) -> tuple[bytes, bytes]:
        key = self._keys.newest
        times = opened.id, opened.name, opened.created, opened.deadline
        if self._protocol() < _PROTOCOL_OF_VERSION:
            envelope = _pack(Envelope(_FIRST_VERSION, key.id, *times))
        else:
            generation = opened.generation + 1 if isinstance(opened, BoundEnvelope) else 0
            envelope = _pack(BoundEnvelope(VERSION, key.id, *times, self._queue, generation))
        return envelope, key.encrypt(plain, envelope)

    def _plain(self, opened: Envelope, envelope: bytes, body: bytes) -> bytes:
        if isinstance(opened, BoundEnvelope) and opened.queue != self._queue:
            raise Damaged(f"damaged: it belongs to the queue {opened.queue[:64]!r}, this one is {self._queue!r}")
        return self._keys.get(opened.key_id).decrypt(body, envelope)

    def _packed(self, call: Call) -> bytes:
        packed = pack_call(call)
        if self._max_size is not None and len(packed) > self._max_size:
            raise EncodeError(
                f"the arguments are too large: expected at most {self._max_size} bytes (PI_JOB_QUEUE_MAX_SIZE), found "
                f"{len(packed)}; store the content elsewhere, and pass its place"
            )
        return packed

    def decode(self, envelope: bytes, body: bytes) -> Call:
        """:raises DecodeError: of an unknown version or key.
        :raises Damaged: what no process can read, or of another queue.
        """
        opened = open_envelope(envelope)
        if opened.key_id != self._keys.newest.id:
            self._note(opened)
        plain = self._plain(opened, envelope, body)
        try:
            args, kwargs, label = _unpack(plain)
        except DecodeError:
            raise
        except Exception as error:  # of zones, numbers and mails, each library has errors of its own
            raise Damaged(f"damaged body ({type(error).__name__})") from error
        named = type(kwargs) is dict and _NAMES.issuperset(map(type, kwargs))
        if named and type(args) is list and (label is None or type(label) is str):
            return Call(tuple(args), kwargs, label, opened)
        raise Damaged("damaged body (expected arguments and a label, found something else)")

    def _note(self, opened: Envelope) -> None:
        if opened.key_id in self.other_keys or len(self.other_keys) < _MOST_KEYS:
            self.other_keys[opened.key_id] = max(opened.created, self.other_keys.get(opened.key_id, 0))


def open_envelope(data: bytes) -> Envelope:
    """:raises DecodeError: of a version that this pijobs does not know.
    :raises Damaged: what no process can read.
    """
    try:
        envelope = (_unpack_bound if data[:1] == _BOUND_ARRAY else _unpack_envelope)(data)
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise _fault_of(data) from error
    version = VERSION if isinstance(envelope, BoundEnvelope) else _FIRST_VERSION
    if envelope.version != version or _pack(envelope) != data:
        raise _fault_of(data)
    return envelope


def _fault_of(data: bytes) -> DecodeError:
    """What is wrong with an envelope. One of a later version may look in any way behind its version."""
    try:
        version = msgspec.msgpack.decode(data, type=list)[0]
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError, IndexError):
        return Damaged("damaged envelope")
    if version in (_FIRST_VERSION, VERSION) or type(version) is not int:
        return Damaged("damaged envelope")
    known = f"{_FIRST_VERSION} and {VERSION}"
    return DecodeError(f"version {version} of the envelope; this pijobs knows versions {known}")


def pack_call(call: Call) -> bytes:
    """The body in clear. :raises EncodeError: for a value that the codec does not know."""
    if _is_plain(call.args) and _is_plain(call.kwargs.values()) and _NAMES.issuperset(map(type, call.kwargs)):
        try:
            return _pack([call.args, call.kwargs, call.label])
        except (UnicodeEncodeError, OverflowError):
            pass  # the walk below tells where, or knows another way
    plain = [
        [_plain(value, (_ARGS, index)) for index, value in enumerate(call.args)],
        _mapping(call.kwargs, None, 0),
        call.label,
    ]
    return _pack(plain)


def _is_plain(values: Collection[Any], depth: int = 0) -> bool:
    """Whether msgpack writes all of them as they are. Most calls hold nothing else, which is quick to see."""
    kinds = set(map(type, values))
    if kinds <= _SIMPLE:
        return True
    if depth > _MAX_DEPTH or not kinds <= _CONTAINERS:
        return False
    for value in values:
        if type(value) is dict:
            if not (_NAMES.issuperset(map(type, value)) and _is_plain(value.values(), depth + 1)):
                return False
        elif type(value) is list and not _is_plain(value, depth + 1):
            return False
    return True


def check_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """:raises EncodeError: as encoding would; for calls that are not stored."""
    pack_call(Call(tuple(args), dict(kwargs)))


#: Where a value stands: its parent's path and its key there; put into words only for a refusal.
_Path = tuple[Any, Any]
_ARGS: _Path = (None, "args")


def _plain(value: Any, path: _Path, depth: int = 0) -> Any:
    """The value as msgpack knows it. Exact types only: a subclass would come back as something else."""
    kind = type(value)
    if kind in _UNCHANGED:
        return value
    if kind is str:
        return value if value.isascii() else _text(value, path)
    if kind is int:
        return value if -(2**63) <= value < 2**64 else _ext(_INT, b"%x" % value)
    if depth > _MAX_DEPTH:
        raise _refusal(path, f"at most {_MAX_DEPTH} levels", "more")
    if kind is list:
        return [_plain(item, (path, index), depth + 1) for index, item in enumerate(value)]
    if kind is dict:
        return _mapping(value, path, depth + 1)
    if kind in _SEQUENCES:
        items = [_plain(item, (path, index), depth + 1) for index, item in enumerate(value)]
        return _ext(_SEQUENCES[kind], _pack(items))
    if kind is dt.datetime and not moments.is_plain(value):
        return _zoned(value, path)
    if kind in _SCALARS:
        code, dump = _SCALARS[kind]
        return _ext(code, dump(value))
    if isinstance(value, email.message.Message):
        return _message(value, path)
    expected = (
        "a value that can be stored (text, number, bytes, list, dict, tuple, set, datetime, date, Decimal, UUID, "
        "email message)"
    )
    raise _refusal(path, expected, f"{kind.__module__}.{kind.__qualname__}")


def _mapping(value: Mapping[Any, Any], path: _Path | None, depth: int) -> dict[Any, Any]:
    """The names and values of a dictionary; of keyword arguments when there is no path."""
    return {
        _name(key) if path is None else _dict_key(key, path): _plain(item, (path, key), depth)
        for key, item in value.items()
    }


def _refusal(path: _Path, expected: str, found: str) -> EncodeError:
    parent, name = path
    shown = ""
    while parent is not None:
        shown = f"[{name!r}]{shown}"
        parent, name = parent
    # A path holds the keys of dictionaries, which may be addresses.
    return EncodeError(f"{redact(f'{name}{shown}')}: expected {expected}, found {found}")


def _text(value: str, path: _Path) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refusal(path, "text that UTF-8 can write", "a lone surrogate") from None
    return value


def _name(name: Any) -> str:
    if type(name) is not str:
        raise _refusal((None, "kwargs"), "text as names", type(name).__qualname__)
    return _text(name, (None, "kwargs"))


def _dict_key(key: Any, path: _Path) -> Any:
    if type(key) is str:
        return key if key.isascii() else _text(key, path)
    if type(key) is int and -(2**63) <= key < 2**64:
        return key
    raise _refusal(path, "text or whole numbers as keys", type(key).__qualname__)


def _message(value: email.message.Message, path: _Path) -> msgspec.msgpack.Ext:
    modern = isinstance(value, email.message.EmailMessage)
    try:
        wire = value.as_bytes(policy=value.policy.clone(linesep="\n"))
    except Exception as error:
        raise _refusal(path, "a complete email message", f"one that raises {type(error).__name__}") from error
    if not modern:
        return _ext(_LEGACY_EMAIL, wire)
    # Headers in UTF-8 (RFC 6532) must not be taken for damaged ASCII when they come back.
    return _ext(_UTF8_EMAIL if getattr(value.policy, "utf8", False) else _EMAIL, wire)


def _zoned(value: dt.datetime, path: _Path) -> msgspec.msgpack.Ext:
    dumped = moments.dump(value)
    if dumped is None:
        kind = type(value.tzinfo)
        expected = "a datetime with a time zone of zoneinfo, or with a fixed offset"
        raise _refusal(path, expected, f"one of {kind.__module__}.{kind.__qualname__}")
    return _ext(_ZONED, dumped)


def _datetime(text: bytes) -> dt.datetime:
    return dt.datetime.fromisoformat(text.decode())


_TUPLE, _SET, _FROZENSET, _INT, _DATETIME, _DATE, _DECIMAL, _UUID, _EMAIL, _LEGACY_EMAIL, _UTF8_EMAIL = range(1, 12)
_ZONED = 12  # 0.1.0 does not know it, and leaves it to a newer worker
_ext = msgspec.msgpack.Ext
_SEQUENCES: dict[type, int] = {tuple: _TUPLE, set: _SET, frozenset: _FROZENSET}
_SCALARS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    dt.datetime: (_DATETIME, lambda v: v.isoformat().encode()),
    dt.date: (_DATE, lambda v: v.isoformat().encode()),
    Decimal: (_DECIMAL, lambda v: str(v).encode()),
    uuid.UUID: (_UUID, lambda v: v.bytes),
}
#: The types whose values can be stored; of email messages subclasses, too.
KINDS: tuple[type, ...] = (*_SIMPLE, list, dict, *_SEQUENCES, *_SCALARS, email.message.Message)
_LOADERS: dict[int, Callable[[bytes], Any]] = {
    _TUPLE: lambda b: tuple(_unpack(b)),
    _SET: lambda b: set(_unpack(b)),
    _FROZENSET: lambda b: frozenset(_unpack(b)),
    _INT: lambda b: int(b, 16),
    _DATETIME: _datetime,
    _ZONED: moments.load,
    _DATE: lambda b: dt.date.fromisoformat(b.decode()),
    _DECIMAL: lambda b: Decimal(b.decode()),
    _UUID: lambda b: uuid.UUID(bytes=b),
    _EMAIL: lambda b: email.parser.BytesParser(policy=_POLICY).parsebytes(b),
    _UTF8_EMAIL: lambda b: email.parser.BytesParser(policy=_UTF8_POLICY).parsebytes(b),
    _LEGACY_EMAIL: lambda b: email.parser.BytesParser(policy=_COMPAT).parsebytes(b),
}


def _load_ext(code: int, data: memoryview) -> Any:
    try:
        load = _LOADERS[code]
    except KeyError:
        raise DecodeError(f"unknown extension type {code} in the body; made by a newer pijobs") from None
    return load(bytes(data))


_unpack_envelope = msgspec.msgpack.Decoder(Envelope).decode
_unpack_bound = msgspec.msgpack.Decoder(BoundEnvelope).decode
#: How msgpack begins an array of eight.
_BOUND_ARRAY = b"\x98"
_unpack: Callable[[bytes], Any] = msgspec.msgpack.Decoder(ext_hook=_load_ext).decode
