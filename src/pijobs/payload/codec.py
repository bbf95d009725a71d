"""Turns a job call into the two byte strings that are stored, and back. No pickle: data never becomes code.

*Envelope*: a msgpack array ``[version, key id, instance id, job name, created, deadline, queue, generation]`` (times in
ms on the storage's clock), in clear. *Body*: a msgpack array ``[args, kwargs, label]``, encrypted with AES-256-GCM, the
envelope as associated data; so a change of either is noticed, and a body that was moved to another envelope, too. The
name of the queue keeps a body from being moved to another queue with the same keys; the generation grows when the body
is replaced, so that an older body does not fit any more. Version 1, of release 0.1.0, has neither of the two. After the
label comes the caller's trace, if there is one (:mod:`pijobs.base.traces`). :mod:`pijobs.payload.packing` says which
values can be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pijobs.errors import Damaged, DecodeError, EncodeError
from pijobs.payload.keys import KeyRing
from pijobs.payload.packing import NAMES, pack_arguments, unpack

#: The envelope version that all releases on a storage can read, by the storage's protocol.
_FIRST_VERSION, VERSION, _PROTOCOL_OF_VERSION = 1, 2, 3

_pack = msgspec.msgpack.Encoder().encode
_MOST_KEYS = 8
#: Separates a label, which is printable, from the trace of its caller. Release 0.1.0 reads both as the label, which
#: does no harm; it would reject a fourth part of the body as damaged.
_TRACE = "\0"


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """The part of an instance that can be read without a key."""

    version: int
    key_id: str
    id: str
    name: str
    created: int
    deadline: int | None


class BoundEnvelope(Envelope, frozen=True, array_like=True):
    """In version 2: the queue and the body that it belongs to."""

    queue: str
    generation: int


class Call(msgspec.Struct, frozen=True, eq=False):
    """The arguments of one call, and its masked label for people."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    label: str | None = None
    #: The caller's trace (:mod:`pijobs.base.traces`).
    trace: str | None = None
    #: Its envelope, after decoding.
    envelope: Envelope | None = None

    def __eq__(self, other: object) -> bool:
        """Whether arguments and label are the same."""
        if not isinstance(other, Call):
            return NotImplemented
        return (self.args, self.kwargs, self.label) == (other.args, other.kwargs, other.label)

    __hash__ = None  # type: ignore[assignment]


class Codec:
    """Encodes with the newest key, decodes with any key.

    :param queue: name of the queue.
    :param protocol: of the storage, see :mod:`pijobs.storage.protocol`; read at each encoding.
    :param max_size: the most bytes of a body; None: no limit.
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
        #: By key id: creation time (ms) of the newest instance under a key that is not the newest of this process. Some
        #: server still encrypts with that key. Keeps at most eight unknown ids.
        self.other_keys: dict[str, int] = {}

    def encode(self, *, id: str, name: str, call: Call, created: int, deadline: int | None) -> tuple[bytes, bytes]:
        """Envelope and body.

        :raises EncodeError: with the path of the first value that can't be encoded, or if the body is too large.
        """
        return self._seal(Envelope(_FIRST_VERSION, "", id, name, created, deadline), self._packed(call))

    def reencode(self, envelope: bytes, call: Call) -> tuple[bytes, bytes]:
        """Envelope and body for the next attempt with other arguments. With the same key, because whoever runs the next
        attempt has it."""
        opened = open_envelope(envelope)
        if isinstance(opened, BoundEnvelope):
            envelope = _pack(msgspec.structs.replace(opened, generation=opened.generation + 1))
        return envelope, self._keys.get(opened.key_id).encrypt(self._packed(call), envelope)

    def reseal(self, envelope: bytes, body: bytes) -> tuple[bytes, bytes]:
        """Envelope and body encrypted with the newest key, in the version that the storage needs now.

        :raises DecodeError: if they can't be decoded.
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
        """:raises DecodeError: for an unknown version or key.
        :raises Damaged: if no process can read it, or it belongs to another queue.
        """
        opened = open_envelope(envelope)
        if opened.key_id != self._keys.newest.id:
            self._note(opened)
        plain = self._plain(opened, envelope, body)
        try:
            args, kwargs, label = unpack(plain)
        except DecodeError:
            raise
        except Exception as error:  # libraries for zones, numbers and mails have their own errors
            raise Damaged(f"damaged body ({type(error).__name__})") from error
        named = type(kwargs) is dict and NAMES.issuperset(map(type, kwargs))
        if named and type(args) is list and (label is None or type(label) is str):
            trace = None
            if label is not None and _TRACE in label:
                label, _, trace = label.partition(_TRACE)
            return Call(tuple(args), kwargs, label or None, trace, opened)
        raise Damaged("damaged body (expected arguments and a label, found something else)")

    def _note(self, opened: Envelope) -> None:
        if opened.key_id in self.other_keys or len(self.other_keys) < _MOST_KEYS:
            self.other_keys[opened.key_id] = max(opened.created, self.other_keys.get(opened.key_id, 0))


def open_envelope(data: bytes) -> Envelope:
    """:raises DecodeError: for a version that this pijobs does not know.
    :raises Damaged: if no process can read it.
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
    """The error for an unreadable envelope. A later version may have any content after its number."""
    try:
        version = msgspec.msgpack.decode(data, type=list)[0]
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError, IndexError):
        return Damaged("damaged envelope")
    if version in (_FIRST_VERSION, VERSION) or type(version) is not int:
        return Damaged("damaged envelope")
    known = f"{_FIRST_VERSION} and {VERSION}"
    return DecodeError(f"version {version} of the envelope; this pijobs knows versions {known}")


def pack_call(call: Call) -> bytes:
    """The body in clear. :raises EncodeError: for a value that can't be stored."""
    label = call.label if call.trace is None else f"{call.label or ''}{_TRACE}{call.trace}"
    return pack_arguments(call.args, call.kwargs, label)


def check_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """:raises EncodeError: as encoding would; for calls that are not stored."""
    pack_call(Call(tuple(args), dict(kwargs)))


_unpack_envelope = msgspec.msgpack.Decoder(Envelope).decode
_unpack_bound = msgspec.msgpack.Decoder(BoundEnvelope).decode
#: How msgpack begins an array of eight.
_BOUND_ARRAY = b"\x98"
