"""Turns the arguments of a call into msgpack, and back. Exact types only; no pickle: data never becomes code.

Values are those of msgpack (None, bool, int, float, str, bytes, list, dict with text or whole-number keys), and, as
extension types: tuple, set, frozenset, datetime (with zone and fold), date, Decimal, UUID, integers beyond 64 bits, and
messages of :mod:`email.message`. A decoded message has the same bytes on the wire. It is an
:class:`~email.message.EmailMessage`, a :class:`~email.message.Message`, or of the class of :mod:`email.mime` for parts
of its type (``MIMEMultipart``, ``MIMEText``).
"""

from __future__ import annotations

import datetime as dt
import email.message
import email.parser
import email.policy
import importlib
import re
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from pijobs.base.redact import redact
from pijobs.errors import DecodeError, EncodeError
from pijobs.payload import moments

_pack = msgspec.msgpack.Encoder().encode
_MAX_DEPTH = 50
_UNCHANGED = frozenset({type(None), bool, float, bytes})
NAMES = frozenset({str})
_SIMPLE = _UNCHANGED | {str, int}
_CONTAINERS = _SIMPLE | {list, dict}
# Headers keep their stored folding, because a signature may cover them.
_POLICY = email.policy.default.clone(refold_source="none")


class _Stored(str):
    """The value of a header as it was stored, folds included."""

    __slots__ = ()


class _Compat(email.policy.Compat32):
    """Keeps the folding of legacy messages' headers, which their own policy would change."""

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


def pack_arguments(args: Sequence[Any], kwargs: Mapping[str, Any], label: str | None = None) -> bytes:
    """:raises EncodeError: for the first value of an unknown kind, with its path."""
    if _is_plain(args) and _is_plain(kwargs.values()) and NAMES.issuperset(map(type, kwargs)):
        try:
            return _pack([args, kwargs, label])
        except (UnicodeEncodeError, OverflowError):
            pass  # the code below finds the place, or another way
    plain = [[_plain(value, (_ARGS, index)) for index, value in enumerate(args)], _mapping(kwargs, None, 0), label]
    return _pack(plain)


def _is_plain(values: Collection[Any], depth: int = 0) -> bool:
    """Whether msgpack can write all values as they are: a quick check that is true for most calls."""
    kinds = set(map(type, values))
    if kinds <= _SIMPLE:
        return True
    if depth > _MAX_DEPTH or not kinds <= _CONTAINERS:
        return False
    for value in values:
        if type(value) is dict:
            if not (NAMES.issuperset(map(type, value)) and _is_plain(value.values(), depth + 1)):
                return False
        elif type(value) is list and not _is_plain(value, depth + 1):
            return False
    return True


#: The path of a value: its parent's path, and its key there. Formatted only for errors.
_Path = tuple[Any, Any]
_ARGS: _Path = (None, "args")


def _plain(value: Any, path: _Path, depth: int = 0) -> Any:
    """The value for msgpack. Exact types only: a subclass would be decoded as its base class."""
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
    """The items of a dictionary; of keyword arguments if ``path`` is None."""
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
    # A path contains keys of dictionaries, which may be addresses.
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
    # Headers in UTF-8 (RFC 6532) must not be decoded as damaged ASCII.
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
#: The types whose values can be stored; also subclasses of email messages.
KINDS: tuple[type, ...] = (*_SIMPLE, list, dict, *_SEQUENCES, *_SCALARS, email.message.Message)
_LOADERS: dict[int, Callable[[bytes], Any]] = {
    _TUPLE: lambda b: tuple(unpack(b)),
    _SET: lambda b: set(unpack(b)),
    _FROZENSET: lambda b: frozenset(unpack(b)),
    _INT: lambda b: int(b, 16),
    _DATETIME: _datetime,
    _ZONED: moments.load,
    _DATE: lambda b: dt.date.fromisoformat(b.decode()),
    _DECIMAL: lambda b: Decimal(b.decode()),
    _UUID: lambda b: uuid.UUID(bytes=b),
    _EMAIL: lambda b: email.parser.BytesParser(policy=_POLICY).parsebytes(b),
    _UTF8_EMAIL: lambda b: email.parser.BytesParser(policy=_UTF8_POLICY).parsebytes(b),
    _LEGACY_EMAIL: lambda b: _legacy(b),
}


def _legacy(wire: bytes) -> email.message.Message:
    message = email.parser.BytesParser(policy=_COMPAT).parsebytes(wire)
    for part in message.walk():
        if "MIME-Version" in part:
            part.__class__ = _mime_class(part.get_content_maintype())
    return message


def _mime_class(kind: str) -> type[email.message.Message]:
    """The class of a part, since code tests for it: :mod:`email.mime` was once the only way to make parts."""
    name = kind if kind in ("application", "audio", "image", "message", "multipart", "text") else "base"
    module = importlib.import_module(f"email.mime.{name}")
    made: type[email.message.Message] = getattr(module, f"MIME{name.capitalize()}")
    return made


def _load_ext(code: int, data: memoryview) -> Any:
    try:
        load = _LOADERS[code]
    except KeyError:
        raise DecodeError(f"unknown extension type {code} in the body; made by a newer pijobs") from None
    return load(bytes(data))


#: Decodes a result of :func:`pack_arguments` to a list of three; other data raise the libraries' errors.
unpack: Callable[[bytes], Any] = msgspec.msgpack.Decoder(ext_hook=_load_ext).decode
