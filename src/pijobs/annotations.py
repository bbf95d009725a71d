"""Arguments against the annotations of a job's function, before they are stored: a mistake shows in the request."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pijobs.errors import EncodeError
from pijobs.redact import redact

#: Types whose values need no look inside, and what else stands for them (PEP 484: a whole number is a float, too).
_PLAIN: dict[Any, frozenset[type]] = {
    str: frozenset({str}), int: frozenset({int}), float: frozenset({float, int}), bool: frozenset({bool}),
    bytes: frozenset({bytes}), None: frozenset({type(None)}), type(None): frozenset({type(None)}),
}  # fmt: skip


class Annotations:
    """The annotations of one function. Those that can't be resolved (names for type checkers only) are not checked."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._types, self.unresolved = _resolved(function)
        self._surely = {name: _surely(kind) for name, kind in self._types.items()}

    def get(self, name: str, default: Any = None) -> Any:
        """The annotation of a parameter; ``default`` if it has none that can be resolved."""
        return self._types.get(name, default)

    def check(self, arguments: Mapping[str, Any], where: str) -> None:
        """:raises EncodeError: naming the first argument that is of another type, and the place inside it."""
        surely = self._surely
        for name, value in arguments.items():
            if name in surely and not surely[name](value):
                self._check(name, value, where)

    def _check(self, name: str, value: Any, where: str) -> None:
        # Few arguments get here, and the import takes 0.1 s of each start.
        from typeguard import CollectionCheckStrategy, ForwardRefPolicy, TypeCheckError, check_type

        kind = self._types[name]
        try:
            # All items: a check of the first one would find a mistake on some days only.
            check_type(
                value, kind, forward_ref_policy=ForwardRefPolicy.IGNORE,
                collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS,
            )  # fmt: skip
        except TypeCheckError as error:
            shown = inspect.formatannotation(kind)
            found = redact(" ".join(str(error).split()))  # a path holds keys of dictionaries, which may be addresses
            raise EncodeError(f"{where}: argument {name!r}: expected {shown}, found that {found}") from None


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
    """The function without the arguments that :class:`functools.partial` gives it."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


Test = Callable[[Any], bool]


def _surely(kind: Any) -> Test:
    """A quick test of the usual annotations and what they are made of: True for values that surely fit. A False says
    nothing: typeguard, which takes fifty times as long, decides."""
    if (exact := _exact(kind)) is not None:
        return lambda value: type(value) in exact
    if kind is Any:
        return lambda value: True
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        tests = [_surely(part) for part in parts]
        return lambda value: any(test(value) for test in tests)
    if origin is list:
        items = _all(parts[0])
        return lambda value: type(value) is list and items(value)
    if origin in (dict, collections.abc.Mapping):
        keys, values = map(_all, parts)
        return lambda value: type(value) is dict and keys(value) and values(value.values())
    return lambda value: False


def _all(kind: Any) -> Callable[[Collection[Any]], bool]:
    """The same for all items of a container."""
    if kind is Any:
        return lambda values: True
    if (exact := _exact(kind)) is not None:
        return lambda values: exact.issuperset(map(type, values))
    test = _surely(kind)
    return lambda values: all(map(test, values))


def _exact(kind: Any) -> frozenset[type] | None:
    """The types whose values need no look inside; None for an annotation of another kind."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        parts = [_exact(part) for part in typing.get_args(kind)]
        return None if None in parts else frozenset().union(*filter(None, parts))
    try:
        return _PLAIN.get(kind)
    except TypeError:  # an annotation that is no type and can't be looked up
        return None
