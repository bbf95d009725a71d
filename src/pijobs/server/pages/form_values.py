"""Values of a definition in a form, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import flask

from pijobs.definitions import CENSORED, CONNECTION, LOGIN, SECURITY, TOGGLE, Field
from pijobs.definitions.declaration import Declaration
from pijobs.definitions.secrets import censored

#: Sections of a form that are open at first.
OPEN = (CONNECTION, "Message", LOGIN, SECURITY)


def rows_of(name: str) -> dict[str, str] | None:
    """The posted rows of a field of names and texts; None if the form has no such rows."""
    form = flask.request.form
    if f"{name}.name" not in form:
        return None
    pairs = zip(form.getlist(f"{name}.name"), form.getlist(f"{name}.text"), strict=False)
    return {key.strip(): text for key, text in pairs if key.strip() or text}


def not_sent_back(field: Field, value: Any, *, public: bool) -> Any:
    """The value as a form may show it. :param public: the value is a preset's, not a typed secret."""
    if public:
        return value
    if field.kind is str:
        return CENSORED if value == CENSORED else ""
    try:
        shown = censored(field.typed(field.convert(value)))
    except ValueError:
        return ""
    if isinstance(value, dict):
        # Keep the mask of stored values. Blank typed ones: a mask instead would restore the old value when saved.
        shown = {name: "" if text == CENSORED != value.get(name) else text for name, text in shown.items()}
    return shown


def sections_of(
    declaration: Declaration, values: Mapping[str, Any], shown: Mapping[str, Any]
) -> Iterator[tuple[str, list[Field], bool]]:
    """Each section's heading, its fields, and whether it is open. The toggle comes first; the choice is left out."""
    fields = dict(declaration.fields_of(values))
    if declaration.choice is not None:
        fields.pop(declaration.choice.name, None)
    ordered = [fields.pop(TOGGLE), *fields.values()]
    for section in sorted({field.section: None for field in ordered}, key=_place_of):
        own = [field for field in ordered if field.section == section]
        yield section, own, section in OPEN or any(_is_set(field, shown[field.name]) for field in own)


def _place_of(section: str) -> int:
    return 0 if not section else OPEN.index(section) + 1 if section in OPEN else len(OPEN) + 1


def _is_set(field: Field, value: Any) -> bool:
    """Whether the value differs from the default, or is invalid."""
    try:
        return field.convert(value) not in (field.default, None, "")
    except ValueError:
        return True
