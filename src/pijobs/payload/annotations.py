"""Checks arguments against the annotations of a job's function before they are stored, so that a mistake shows in the
request."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pijobs.base.redact import redact
from pijobs.errors import EncodeError

#: Types whose values are not checked inside, and the other types that they accept (PEP 484: a whole number is a float,
#: too).
_PLAIN: dict[Any, frozenset[type]] = {
    str: frozenset({str}), int: frozenset({int, bool}), float: frozenset({float, int, bool}), bool: frozenset({bool}),
    bytes: frozenset({bytes}), None: frozenset({type(None)}), type(None): frozenset({type(None)}),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Misfit:
    """A value of a wrong type.

    :ivar found: the type of the value; never the value, which may be a secret.
    :ivar places: the path to the value, innermost part first.
    """

    found: str
    places: tuple[str, ...] = ()

    def within(self, place: str) -> Misfit:
        return Misfit(self.found, (*self.places, place))

    def __str__(self) -> str:
        return f"{' of '.join(self.places) or 'it'} is {self.found}"


#: Returns what does not match, or None.
Check = Callable[[Any], "Misfit | None"]


class Annotations:
    """The annotations of one function. Those that can't be resolved (names for type checkers only) are not checked."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._types, self.unresolved = _resolved(function)
        self._checks = {name: check_of(kind) for name, kind in self._types.items()}

    def get(self, name: str, default: Any = None) -> Any:
        """The annotation of a parameter; ``default`` if it has none that can be resolved."""
        return self._types.get(name, default)

    def check(self, arguments: Mapping[str, Any], where: str) -> None:
        """:raises EncodeError: with the first argument of another type, and the place inside it."""
        checks = self._checks
        for name, value in arguments.items():
            if name in checks and (misfit := checks[name](value)) is not None:
                shown = inspect.formatannotation(self._types[name])
                # A place contains keys of dictionaries, which may be addresses.
                raise EncodeError(f"{where}: argument {name!r}: expected {shown}, found that {redact(str(misfit))}")


def _resolved(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The annotations by parameter, and why the others can't be resolved."""
    target = inspect.unwrap(_undone(function))
    raw = getattr(target, "__annotations__", None) or getattr(type(target).__call__, "__annotations__", {})
    scope = getattr(target, "__globals__", None) or getattr(type(target).__call__, "__globals__", {})
    found, unresolved = {}, {}
    for name, annotation in raw.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found[name] = typing.get_type_hints(holder, scope)[name]
        except Exception as error:  # a name that exists for type checkers only
            unresolved[name] = redact(" ".join(str(error).split()))
    return found, unresolved


def _undone(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without the arguments that :class:`functools.partial` passes."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def check_of(kind: Any) -> Check:
    """The check of an annotation, for values that the codec knows. It accepts what it does not understand, because it
    must not refuse what the function would accept."""
    if (exact := _exact(kind)) is not None:
        return lambda value: None if type(value) in exact else _misfit(value)
    if hasattr(kind, "__supertype__"):  # typing.NewType
        return check_of(kind.__supertype__)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return check_of(parts[0])
    if origin in (typing.Union, types.UnionType):
        return _any_of([check_of(part) for part in parts])
    if origin is typing.Literal:
        return _literal(parts)
    if origin is tuple and not (len(parts) == 2 and parts[1] is Ellipsis):
        return _tuple(parts)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping) and len(parts) == 2:
        return _mapping(origin, *parts)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Iterable) and parts:
        return _items(origin, parts[0])
    return _instance(kind if origin is None else origin)


def _misfit(value: Any) -> Misfit:
    return Misfit(type(value).__name__)


def _passes(value: Any) -> None:
    return None


def _instance(kind: Any) -> Check:
    if not isinstance(kind, type) or kind is object:
        return _passes
    try:
        isinstance(None, kind)
    except TypeError:  # a protocol, or the type of a dictionary
        return _passes
    return lambda value: None if isinstance(value, kind) else _misfit(value)


def _any_of(checks: Sequence[Check]) -> Check:
    def check(value: Any) -> Misfit | None:
        misfits = []
        for one in checks:
            if (misfit := one(value)) is None:
                return None
            misfits.append(misfit)
        # The longest path gives the most detail.
        return max(misfits, key=lambda misfit: len(misfit.places))

    return check


def _literal(values: tuple[Any, ...]) -> Check:
    known = {(type(value), value) for value in values}

    def check(value: Any) -> Misfit | None:
        try:
            return None if (type(value), value) in known else Misfit(f"another {type(value).__name__}")
        except TypeError:  # not hashable
            return _misfit(value)

    return check


def _items(container: type[Any], kind: Any) -> Check:
    exact, check = _exact(kind), check_of(kind)

    def look(value: Any) -> Misfit | None:
        if not isinstance(value, container):
            return _misfit(value)
        if exact is not None and exact.issuperset(map(type, value)):
            return None
        for index, item in enumerate(value):
            if (misfit := check(item)) is not None:
                return misfit.within(f"item {index}")
        return None

    return look


def _tuple(kinds: tuple[Any, ...]) -> Check:
    checks = [check_of(kind) for kind in kinds if kind != ()]

    def look(value: Any) -> Misfit | None:
        if type(value) is not tuple:
            return _misfit(value)
        if len(value) != len(checks):
            return Misfit(f"a tuple of {len(value)}")
        for index, (check, item) in enumerate(zip(checks, value, strict=True)):
            if (misfit := check(item)) is not None:
                return misfit.within(f"item {index}")
        return None

    return look


def _mapping(container: type[Any], key: Any, item: Any) -> Check:
    keys, items, exact = check_of(key), check_of(item), _exact(key)

    def look(value: Any) -> Misfit | None:
        if not isinstance(value, container):
            return _misfit(value)
        if items is _passes and exact is not None and exact.issuperset(map(type, value)):
            return None
        for name, content in value.items():
            if (misfit := keys(name)) is not None:
                return misfit.within("a key")
            if (misfit := items(content)) is not None:
                return misfit.within(f"the value of {name!r}")
        return None

    return look


def _exact(kind: Any) -> frozenset[type] | None:
    """The types whose values are not checked inside; None for an annotation of another kind."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        parts = [_exact(part) for part in typing.get_args(kind)]
        return None if None in parts else frozenset().union(*filter(None, parts))
    try:
        return _PLAIN.get(kind)
    except TypeError:  # an annotation that is no type and can't be looked up
        return None
