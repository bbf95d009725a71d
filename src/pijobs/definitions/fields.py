"""A field of a definition, and its valid values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pijobs.base.foreign import MOST, cut
from pijobs.definitions.secrets import CENSORED as CENSORED
from pijobs.definitions.secrets import Url
from pijobs.settings.setting import masked_repr

#: The field that every definition has: whether its jobs go through the queue.
TOGGLE = "enqueue_job"
IDENTIFIER = "identifier"
UNREADABLE = "unreadable"
MAX_IDENTIFIER = 100  # characters

_KINDS: Mapping[type, str] = {
    str: "a text",
    Url: "an address",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a JSON object of names and texts",
}
# From forms, from JSON clients, and from HTML's checkboxes.
_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Field:
    """One field of a definition.

    :param kind: ``str``, ``int``, ``bool``, ``float``, :class:`~pijobs.definitions.Url` for an address that may hold a
        token, or ``dict`` for names with texts, which a form has in rows.
    :param default: the value if none was ever given; not checked.
    :param required: there is no default, and an empty text does not count.
    :param secret: encrypted at rest, and censored for people; in a dictionary the texts, in a ``Url`` the parts that
        may be a token.
    :param belongs_to: names of the fields that say who gets the secret. If one of them changes, the secret must be
        given again, so that nobody can redirect it.
    :param help: for people.
    :param label: what a form calls it; empty: its name.
    :param choices: the only valid texts; empty: any.
    :param multiline: whether a form shows several lines of the text.
    :param section: the heading of the form that it is below. :data:`~pijobs.definitions.CONNECTION`,
        :data:`~pijobs.definitions.LOGIN` and :data:`~pijobs.definitions.SECURITY` are open; others are closed until
        something in them is set. Empty: it is always shown.
    :param check: returns None, or what is wrong with a value: "expected …, found …".
    """

    name: str
    kind: type = str
    default: Any = None
    required: bool = False
    secret: bool = False
    help: str = ""
    check: Callable[[Any], str | None] | None = None
    label: str = ""
    choices: Sequence[str] = ()
    section: str = ""
    multiline: bool = False
    belongs_to: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"expected a field name of letters, digits and underscores, found {self.name!r}")
        if self.kind not in _KINDS:
            raise ValueError(
                f"field {self.name}: expected str, int, bool, float, dict or Url as kind, found {self.kind!r}"
            )

    def convert(self, value: Any) -> Any:
        """The value, converted to the field's kind from what forms and JSON clients send; an empty text is no number.

        :raises ValueError: with what was expected and found.
        """
        if value == "" and self.kind is not str:
            value = self.default
        converted = None if value is None else _convert(self.kind, value)
        if self.required and converted in (None, ""):
            raise ValueError(f"expected {_KINDS[self.kind]}, found none")
        if value is not None and converted is None:
            raise ValueError(f"expected {_KINDS[self.kind]}, found {self._shown(value)}")
        return converted

    def typed(self, value: Any) -> Any:
        """A stored value as its kind."""
        return Url(value) if self.kind is Url and isinstance(value, str) else value

    def fault(self, value: Any) -> str | None:
        """None, or why :attr:`choices` or :attr:`check` refuse a value of the right kind."""
        if self.choices and value not in (None, *self.choices):
            return f"expected {' or '.join(self.choices)}, found {self._shown(value)}"
        if self.check is None or value is None:
            return None
        try:
            message = self.check(value)
        except Exception:  # a check that raises has refused the value
            message = f"expected a value that can be used, found {self._shown(value)}"
        if message and self.secret and self.kind is str:
            return message.partition(", found")[0] + ", found something else"
        return message

    def _shown(self, value: Any) -> str:
        if self.secret or isinstance(value, (dict, list)):
            return f"a value of type {type(value).__name__}"
        text = masked_repr(cut(value, 200) if isinstance(value, str) else value)
        return text if len(text) <= 60 else text[:59] + "…"


def _convert(kind: type, value: Any) -> Any:
    """None for a value that is not of this kind."""
    if kind is Url and isinstance(value, str) and len(value) > MOST:
        return None
    if kind in (str, Url):
        return value if isinstance(value, str) else None
    if kind is bool:
        return _as_bool(value)
    if kind is dict:
        return _as_texts(value)
    if isinstance(value, bool):
        return None
    if kind is int:
        return _as_int(value)
    return _as_float(value)


def _as_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    return bool(value) if isinstance(value, (bool, int)) and value in (0, 1) else None


def _as_texts(value: Any) -> dict[str, str] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, dict) or not all(isinstance(text, (str, int, float)) for text in value.values()):
        return None
    # As JSON writes them: true, 1, 1.5.
    return {str(name): text if isinstance(text, str) else json.dumps(text) for name, text in value.items()}


def _as_int(value: Any) -> int | None:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e18:
        return int(value)
    return value if isinstance(value, int) else None


def _as_float(value: Any) -> float | None:
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        return None
    if not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
