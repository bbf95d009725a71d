"""The declaration of a kind of definition: its fields, and the check of values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pijobs.base.foreign import cut
from pijobs.definitions.fields import CENSORED, IDENTIFIER, TOGGLE, UNREADABLE, Field
from pijobs.definitions.secrets import Url, place_of, restored, texts
from pijobs.errors import DefinitionError
from pijobs.settings import Settings


class Declaration:
    """The fields of :class:`~pijobs.definitions.Definitions`, without a database."""

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
        """The field that chooses the variant; None if there are no variants."""
        return None if self._choice is None else self._common[self._choice]

    @property
    def variants(self) -> Sequence[str]:
        """The values that :attr:`choice` may have."""
        return tuple(self._variants)

    def fields_of(self, values: Mapping[str, Any]) -> Mapping[str, Field]:
        """The fields of a definition with these values, by name; without a known variant, the common ones."""
        return self._variants.get(values.get(self._choice, ""), self._common) if self._choice else self._common

    def secrets_of(self, values: Mapping[str, Any]) -> frozenset[str]:
        """Names of the secret fields of a definition with these values."""
        return frozenset(name for name, field in self.fields_of(values).items() if field.secret)

    @property
    def secrets(self) -> frozenset[str]:
        """Names of the fields that are secret in any variant."""
        every = (self._common, *self._variants.values())
        return frozenset(name for fields in every for name, field in fields.items() if field.secret)

    def credentials(self, values: Mapping[str, Any]) -> list[str]:
        """The secret texts of a definition with these values, for :class:`pijobs.base.known_texts.Known`."""
        fields = self.fields_of(values)
        return [text for name in self.secrets_of(values) for text in texts(fields[name].typed(values.get(name)))]

    def unknown_variant(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Why these values have no known variant, by the field of the choice; empty if they have one."""
        if self._choice is None or values.get(self._choice) in self._variants:
            return {}
        expected = f"expected {' or '.join(self._variants)}" if self._variants else "expected a loaded plugin with one"
        found = str(values.get(self._choice) or "none")[:60]
        return {self._choice: f"{expected}, found {found}; 'pijobs plugins' tells which plugins are loaded"}

    def complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of all fields, with defaults for missing ones."""
        return {name: values.get(name, field.default) for name, field in self.fields_of(values).items()}

    def validate(self, values: Mapping[str, Any], stored: Mapping[str, Any], lost: Mapping[str, str]) -> dict[str, Any]:
        """Check everything at once. None counts as not given, and a field that is not given keeps its stored value.

        :param stored: the stored values.
        :param lost: stored secrets that can't be read, and why.
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
        """What is wrong with a secret that is kept although its destination changes."""
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
