"""Arguments against the annotations of a job's function, before they are stored: a mistake shows in the request."""

from __future__ import annotations

import contextlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from typeguard import CollectionCheckStrategy, ForwardRefPolicy, TypeCheckError, check_type

from pijobs.errors import EncodeError
from pijobs.redact import redact

#: Types whose values need no look inside, and what else stands for them (PEP 484: a whole number is a float, too).
_PLAIN: dict[Any, frozenset[type]] = {
    str: frozenset({str}), int: frozenset({int}), float: frozenset({float, int}), bool: frozenset({bool}),
    bytes: frozenset({bytes}), None: frozenset({type(None)}), type(None): frozenset({type(None)}),
}  # fmt: skip


class Annotations:
    """The annotations of one function that can be resolved. Those that can't (names for type checkers only) are left
    out: a check must not refuse what the function would take."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._types = _resolved(function)
        self._plain = {name: _plain(kind) for name, kind in self._types.items()}

    def get(self, name: str) -> Any:
        """The annotation of a parameter; None if it has none that can be resolved."""
        return self._types.get(name)

    def check(self, arguments: Mapping[str, Any], where: str) -> None:
        """:raises EncodeError: naming the first argument that is of another type, and the place inside it."""
        for name, value in arguments.items():
            if name in self._plain and type(value) not in self._plain[name]:
                self._check(name, value, where)

    def _check(self, name: str, value: Any, where: str) -> None:
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


def _resolved(function: Callable[..., Any]) -> dict[str, Any]:
    target = inspect.unwrap(function)
    raw = getattr(target, "__annotations__", None) or getattr(type(target).__call__, "__annotations__", {})
    scope = getattr(target, "__globals__", {})
    found = {}
    for name, annotation in raw.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(Exception):  # a name that exists for type checkers only
            found[name] = typing.get_type_hints(holder, scope)[name]
    return found


def _plain(kind: Any) -> frozenset[type]:
    """The types whose values can be taken without a closer look."""
    if kind is Any:
        return _ANYTHING
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return frozenset().union(*(_plain(part) for part in typing.get_args(kind)))
    try:
        return _PLAIN.get(kind, frozenset())
    except TypeError:  # an annotation that is no type and can't be looked up
        return frozenset()


class _Anything(frozenset[type]):
    def __contains__(self, kind: object) -> bool:
        return True


_ANYTHING = _Anything()
