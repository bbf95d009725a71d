"""A setting: one row of the table, what it accepts, and what may be shown of a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, overload

from pijobs.base.foreign import cut
from pijobs.base.masks import masked_query

if TYPE_CHECKING:  # a plugin's "list[Setting]" needs no type argument
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

PREFIX = "PI_JOB_QUEUE_"
MASK = "********"
# Up to the last "@": a password with an unquoted slash, blank or "@" must not appear in an error either.
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):.*@", re.DOTALL)
_MISTYPED = re.compile(r":.*@", re.DOTALL)
#: Without the colon, the password stands in the place of the user.
_REDIS_USER = re.compile(r"(?<=redis://|ediss://|tinel://|uster://|.unix://)[^/@:]+@")
_WORDS = re.compile("[A-Za-z_. ]{0,20}|[0-9.]{1,6}")


@dataclass(frozen=True, kw_only=True)
class Setting(Generic[T]):
    """One row of the table of settings.

    As an attribute of a class of settings: ``settings.lease`` is the value. A plugin's value is
    ``settings[ROW]``. Both have the type of the default.

    :param name: as written in ``pi.cfg``.
    :param default: the value if ``pi.cfg`` does not have it; not checked.
    :param expected: completes the sentence "expected …".
    :param accepts: returns whether a value can be used.
    :param help: for the reference and ``pi.cfg.example``.
    :param secret: never shown; in a URL only the password is hidden.
    :param example: the value shown in ``pi.cfg.example``, if it is not the default.
    """

    name: str
    default: T
    expected: str
    accepts: Callable[[Any], bool]
    help: str
    secret: bool = False
    example: Any = None

    def fault(self, value: object) -> str | None:
        """None if the value can be used, else one line with what was expected and found."""
        if value is None and self.default is None:
            return None  # the same as not set; Flask's own defaults are None
        try:
            if self.accepts(value):
                return None
        except Exception:  # a check that raises for the value refuses it
            pass
        return f"{self.name}: expected {self.expected}, found {self._found(value)}"

    def _found(self, value: object) -> str:
        """What may be shown of a refused value: a secret may have been written to the wrong setting."""
        if self.secret:
            return f"a value of type {type(value).__name__}"
        if self.name.endswith(("URL", "URI")):
            return told_url(value)
        plain = isinstance(value, str) and isinstance(self.default, (str, int, float)) and _WORDS.fullmatch(value)
        return repr(value) if plain else cut(_shape(value), 200)

    def shown(self, value: object) -> str:
        """The value, with secrets masked."""
        return MASK if self.secret and value else masked_repr(value)

    def __str__(self) -> str:
        return self.name

    @overload
    def __get__(self, settings: None, owner: object) -> Setting[T]: ...
    @overload
    def __get__(self, settings: Mapping[str, Any], owner: object) -> T: ...
    def __get__(self, settings: Mapping[str, Any] | None, owner: object) -> Setting[T] | T:
        return self if settings is None else settings[self.name]


def rows(table: type) -> tuple[Setting, ...]:
    """The settings in the body of a class, in their order."""
    return tuple(one for one in vars(table).values() if isinstance(one, Setting))


def masked_repr(value: object) -> str:
    """``repr`` without the passwords of URLs, also of mistyped URLs."""
    return repr(_masked(value))


def _masked(value: object) -> object:
    if isinstance(value, str):
        if "://" not in value and "@" in value:  # "redis//:password@host"
            return _MISTYPED.sub(f":{MASK}@", cut(value))
        with_login = _URL_PASSWORD.sub(rf"\1:{MASK}@", _REDIS_USER.sub(f"{MASK}@", f" {value}")[1:])
        return masked_query(with_login)
    if isinstance(value, Mapping):
        return {name: _masked(one) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_masked, value))  # type: ignore[call-overload,call-arg]
    return _masked(value.decode("utf-8", "replace")) if isinstance(value, bytes) else value


def told_url(value: object) -> str:
    """What may be shown of a value that should be a URL and is not: only how it begins."""
    if not isinstance(value, str):
        return "None" if value is None else f"a value of type {type(value).__name__}"
    scheme, separator, _ = value.partition("://")
    return (
        f"one that begins with {scheme}://"
        if separator and re.fullmatch(r"[a-z0-9+.-]{1,40}", scheme)
        else "another text"
    )


def _shape(value: object, depth: int = 0) -> str:
    """A value without its texts, which may be secret. Names in a dictionary are shown."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if depth == 4:
        return "…"
    if isinstance(value, Mapping):
        pairs = (f"{_name(name)}: {_shape(one, depth + 1)}" for name, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        left, right = "[]" if isinstance(value, list) else "()"
        return left + ", ".join(_shape(one, depth + 1) for one in value) + right
    return "a text" if isinstance(value, str) else f"a value of type {type(value).__name__}"


def _name(name: object) -> str:
    return repr(name) if isinstance(name, str) and re.fullmatch(r"[\w.*-]{1,60}", name) else _shape(name)


def core(name: str, default: T, expected: str, accepts: Any, help: str, **more: Any) -> Setting[T]:
    """A setting of the core. :param name: without :data:`PREFIX`."""
    return Setting(name=PREFIX + name, default=default, expected=expected, accepts=accepts, help=help, **more)
