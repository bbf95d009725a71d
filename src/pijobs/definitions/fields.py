"""The declaration of a kind of definition, and what its values must be."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pijobs.base.foreign import MOST, cut
from pijobs.definitions.secrets import CENSORED as CENSORED
from pijobs.definitions.secrets import Url, place_of, restored, texts
from pijobs.errors import DefinitionError
from pijobs.settings import Settings
from pijobs.settings.model import masked_repr

if TYPE_CHECKING:
    from pijobs.definitions.store import DefinitionStore

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
# Of forms, of JSON clients, and of HTML's checkboxes.
_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Field:
    """One field of a definition.

    :param kind: ``str``, ``int``, ``bool``, ``float``, :class:`~pijobs.definitions.Url` for an address that may hold a
        token, or ``dict`` for names with texts, which a form sends as JSON.
    :param default: the value when none was ever given; not checked.
    :param required: there is no default, and an empty text does not count.
    :param secret: encrypted at rest, and censored for people; of a dictionary the texts, of a ``Url`` what may be a
        token.
    :param belongs_to: names of the fields that say who is given the secret. Whoever changes one of them gives the
        secret anew: nobody has it sent to a place of his own.
    :param help: for people.
    :param label: what a form calls it; empty: its name.
    :param choices: the only texts that it may be; empty: any.
    :param multiline: whether a form shows several lines of the text.
    :param section: heading below which a form folds it away; empty: it is always shown.
    :param check: tells None, or what is wrong with a value: "expected …, found …".
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
        """The value as the field's kind, out of what forms and JSON clients send; an empty text is no number.

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
        """None, or what :attr:`choices` and :attr:`check` have against a value of the right kind."""
        if self.choices and value not in (None, *self.choices):
            return f"expected {' or '.join(self.choices)}, found {self._shown(value)}"
        if self.check is None or value is None:
            return None
        try:
            message = self.check(value)
        except Exception:  # a check that trips over the value has refused it
            message = f"expected a value that can be used, found {self._shown(value)}"
        if message and self.secret and self.kind is str:
            return message.partition(", found")[0] + ", found something else"
        return message

    def _shown(self, value: Any) -> str:
        if self.secret or isinstance(value, (dict, list)):
            return f"a value of type {type(value).__name__}"
        text = masked_repr(cut(value, 200) if isinstance(value, str) else value)
        return text if len(text) <= 60 else text[:59] + "…"


class Definitions:
    """The declaration of a kind of definition.

    :param kind: such as ``"smtpserver"``; names of different kinds do not meet.
    :param fields: without ``identifier`` and ``enqueue_job``, which all definitions have.
    :param choice: name of the text field whose value tells which further fields a definition has.
    :param variants: the further fields by that value.
    :param in_clear: given a definition and the settings, tells in sentences what of it whoever is in between can read.
        Our own server does not save such a definition.
    :raises ValueError: for a name that can't be, or is there twice.
    """

    def __init__(
        self,
        kind: str,
        fields: Sequence[Field],
        *,
        choice: str | None = None,
        variants: Mapping[str, Sequence[Field]] | None = None,
        in_clear: Callable[[Mapping[str, Any], Settings], Iterable[str]] = lambda definition, settings: (),
    ) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,49}", kind):
            raise ValueError(f"expected a kind of at most 50 letters, digits and underscores, found {kind!r}")
        self.kind = kind
        self.in_clear = in_clear
        toggle = Field(
            TOGGLE,
            bool,
            default=False,
            label="Send via job queue",
            help="the worker sends, not the request",
        )
        self._common = self._by_name([*fields, toggle])
        self._choice = choice
        self._variants = {
            value: self._by_name([*fields, *further, toggle]) for value, further in (variants or {}).items()
        }

    def _by_name(self, fields: Sequence[Field]) -> Mapping[str, Field]:
        names = [field.name for field in fields]
        for name in names:
            if names.count(name) > 1 or name in (IDENTIFIER, UNREADABLE):
                raise ValueError(
                    f"{self.kind}: expected fields of different names, found {name!r} twice, or a reserved one"
                )
        return {field.name: field for field in fields}

    @property
    def choice(self) -> Field | None:
        """The field that tells the variant; None where there are none."""
        return None if self._choice is None else self._common[self._choice]

    @property
    def variants(self) -> Sequence[str]:
        """The values that :attr:`choice` may have."""
        return tuple(self._variants)

    def fields_of(self, values: Mapping[str, Any]) -> Mapping[str, Field]:
        """The fields of a definition with these values, by name; without a known variant, those that all have."""
        return self._variants.get(values.get(self._choice, ""), self._common) if self._choice else self._common

    def secrets_of(self, values: Mapping[str, Any]) -> frozenset[str]:
        """Names of the secret fields of a definition with these values."""
        return frozenset(name for name, field in self.fields_of(values).items() if field.secret)

    def credentials(self, values: Mapping[str, Any]) -> list[str]:
        """The secret texts of a definition with these values, for :class:`pijobs.base.redact.Known`."""
        fields = self.fields_of(values)
        return [text for name in self.secrets_of(values) for text in texts(fields[name].typed(values.get(name)))]

    def unknown_variant(self, values: Mapping[str, Any]) -> dict[str, str]:
        """By the field of the choice, why these values can't be used; empty if they can."""
        if self._choice is None or values.get(self._choice) in self._variants:
            return {}
        expected = f"expected {' or '.join(self._variants)}" if self._variants else "expected a loaded plugin with one"
        found = str(values.get(self._choice) or "none")[:60]
        return {self._choice: f"{expected}, found {found}; 'pijobs plugins' tells which plugins are loaded"}

    def open(self, settings: Settings) -> DefinitionStore:
        """The definitions of an installation; connects to nothing yet."""
        from pijobs.definitions.store import DefinitionStore

        return settings.resource((DefinitionStore, self), lambda: DefinitionStore(self, settings))

    def complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of all fields, with defaults for those that are not there."""
        return {name: values.get(name, field.default) for name, field in self.fields_of(values).items()}

    def validate(self, values: Mapping[str, Any], stored: Mapping[str, Any], lost: Mapping[str, str]) -> dict[str, Any]:
        """Check everything at once.

        None counts as not given, and what is not given stays as it is stored.

        :param stored: values that are there already.
        :param lost: secrets that are there but can't be read, and why.
        :raises DefinitionError: with one line per fault.
        """
        chosen = self._chosen(values, stored)
        fields, unknown = self.fields_of(chosen), self.unknown_variant(chosen)
        faults = [f"{name}: {why}" for name, why in unknown.items()]
        known = (*fields, IDENTIFIER, UNREADABLE)
        if not unknown:
            faults += [self._unknown(name, fields) for name in values if name not in known]
        validated, kept = {}, []
        for name, field in fields.items():
            if name in unknown:
                continue
            try:
                value, is_kept = self._taken(field, values.get(name), stored, lost)
                fault = field.fault(value) if value is not field.default else None
            except ValueError as error:
                fault = str(error)
            if fault:
                faults.append(f"{name}: {fault}")
            else:
                validated[name] = value
                kept += [field] if is_kept else []
        faults += [fault for field in kept if (fault := self._led_away(field, fields, validated, stored))]
        if faults:
            raise DefinitionError(faults)
        return validated

    def _led_away(
        self, secret: Field, fields: Mapping[str, Field], values: Mapping[str, Any], stored: Mapping[str, Any]
    ) -> str | None:
        """What is wrong with a secret that stays while another place is to be given it."""
        own = [secret.name] if secret.kind is Url else []
        choice = [self._choice] if self._choice else []
        changed = [
            name for name in dict.fromkeys([*secret.belongs_to, *own, *choice])
            if name in values and place_of(fields[name].typed(values[name])) != self._place(fields[name], stored)
        ]  # fmt: skip
        what = secret.name.replace("_", " ")
        return f"{secret.name}: expected the {what} anew, since {' and '.join(changed)} changed" if changed else None

    def _place(self, field: Field, stored: Mapping[str, Any]) -> Any:
        try:
            return place_of(field.typed(field.convert(stored.get(field.name, field.default))))
        except ValueError:
            return None

    def _taken(self, field: Field, given: Any, stored: Mapping[str, Any], lost: Mapping[str, str]) -> tuple[Any, bool]:
        """The value, and whether it is a stored secret, or has one in it."""
        before = field.typed(stored.get(field.name, field.default))
        if given is None and field.name not in lost:
            return field.convert(before), field.secret and any(texts(before))
        if not field.secret:
            return field.convert(given), False
        if field.name in lost and (given is None or CENSORED in str(given)):
            raise ValueError(f"expected it anew, since the stored one can't be read: {lost[field.name]}")
        return restored(field.typed(field.convert(given)), before)

    def _chosen(self, values: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
        if self._choice is None:
            return {}
        try:
            return {self._choice: self._taken(self._common[self._choice], values.get(self._choice), stored, {})[0]}
        except ValueError:
            return {}

    def _unknown(self, name: object, fields: Mapping[str, Field]) -> str:
        close = difflib.get_close_matches(cut(str(name), 60), fields, n=1, cutoff=0.7)
        advice = f"did you mean {close[0]}?" if close else f"fields are {', '.join(fields)}"
        return f"{str(name)[:60]}: expected a field of {self.kind}, found an unknown name; {advice}"


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
