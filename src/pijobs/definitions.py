"""Named destinations that people define: an SMTP server, an SMS gateway.

Each has an identifier, fields, the toggle ``enqueue_job`` (whether its jobs take the queue), and secrets that are
encrypted at rest and shown as ``__CENSORED__``, as privacyIDEA does; that value keeps the stored one.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pijobs.database import Database
from pijobs.errors import DecodeError, DefinitionError, DefinitionNotFound
from pijobs.keys import KeyRing
from pijobs.settings import Settings

__all__ = ["CENSORED", "DefinitionError", "DefinitionNotFound", "DefinitionStore", "Definitions", "Field"]

CENSORED = "__CENSORED__"
_IDENTIFIER = re.compile(r"[\w .@:-]{1,255}")
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")

metadata = sa.MetaData()
table = sa.Table(
    "pijobs_definition",
    metadata,
    sa.Column("kind", sa.String(64), primary_key=True),
    sa.Column("identifier", sa.String(255), primary_key=True),
    #: JSON of the fields; a secret is [key id, hex of what AES-GCM made].
    sa.Column("fields", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class Field:
    """One field of a definition.

    :param kind: ``str``, ``int``, ``float`` or ``bool``; what forms send as text is converted.
    :param check: tells what is wrong with a value ("expected …, found …"), or None.
    """

    name: str
    kind: type = str
    default: Any = None
    required: bool = False
    secret: bool = False
    help: str = ""
    check: Callable[[Any], str | None] | None = None


TOGGLE = Field("enqueue_job", bool, default=False, help="send via job queue")


class Definitions:
    """The fields that definitions of one kind have. Does nothing before :meth:`open`.

    :param kind: such as ``"smtpserver"``.
    """

    def __init__(self, kind: str, fields: Sequence[Field]) -> None:
        self.kind = kind
        self.fields = {field.name: field for field in (*fields, TOGGLE)}

    def open(self, settings: Settings) -> DefinitionStore:
        """The definitions of an installation."""
        make = lambda: DefinitionStore(self, Database.of(settings), KeyRing.of(settings))  # noqa: E731
        return settings.resource((DefinitionStore, self.kind), make)


class DefinitionStore:
    """Definitions of one kind in one database."""

    def __init__(self, declared: Definitions, database: Database, keys: KeyRing) -> None:
        self.declared = declared
        self._database = database
        self._keys = keys

    def list(self) -> dict[str, dict[str, Any]]:
        """All definitions by identifier. A secret whose key is not there any more is empty, so that the list, and
        with it a way to set the secret anew, stays."""
        statement = sa.select(table.c.identifier, table.c.fields).where(table.c.kind == self.declared.kind)
        with self._begin() as connection:
            rows = connection.execute(statement.order_by(table.c.identifier)).all()
        return {row.identifier: self._opened(row.identifier, row.fields, lenient=True) for row in rows}

    def get(self, identifier: str) -> dict[str, Any]:
        """One definition, secrets in clear.

        :raises DefinitionNotFound: if there is none.
        :raises DefinitionError: when a secret can't be decrypted.
        """
        with self._begin() as connection:
            fields = self._stored(connection, identifier)
        if fields is None:
            raise DefinitionNotFound(self._missing(identifier))
        return self._opened(identifier, fields)

    def save(self, identifier: str, values: Mapping[str, Any]) -> None:
        """Create a definition, or change one: fields that are not given keep their values.

        :raises DefinitionError: with everything that is wrong.
        """
        if not _IDENTIFIER.fullmatch(identifier):
            raise DefinitionError([f"identifier: expected letters, digits, spaces and . @ : - _, found {identifier!r}"])
        with self._begin() as connection:
            stored = self._stored(connection, identifier)
            old = {} if stored is None else self._opened(identifier, stored, lenient=True)
            kept = {name: old.get(name, "") for name, value in values.items() if self._keeps(name, value)}
            fields = self._sealed(identifier, self.check({**old, **values, **kept}))
            where = (table.c.kind == self.declared.kind) & (table.c.identifier == identifier)
            if stored is None:
                row = {"kind": self.declared.kind, "identifier": identifier, "fields": fields}
                connection.execute(table.insert().values(row))
            else:
                connection.execute(table.update().where(where).values(fields=fields))

    def delete(self, identifier: str) -> None:
        """:raises DefinitionNotFound: if there is none."""
        where = (table.c.kind == self.declared.kind) & (table.c.identifier == identifier)
        with self._begin() as connection:
            if not connection.execute(table.delete().where(where)).rowcount:
                raise DefinitionNotFound(self._missing(identifier))

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a definition that need not be saved: converted, with defaults.

        :raises DefinitionError: with everything that is wrong.
        """
        faults = [_unknown(name, self.declared.fields) for name in values if name not in self.declared.fields]
        checked: dict[str, Any] = {}
        for field in self.declared.fields.values():
            try:
                checked[field.name] = _converted(field, values.get(field.name))
            except ValueError as error:
                faults.append(f"{field.name}: {error}")
        if faults:
            raise DefinitionError(faults)
        return checked

    def censored(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """The definition as people may see it."""
        return {name: CENSORED if self._is_secret(name) and value else value for name, value in definition.items()}

    # -- inside --------------------------------------------------------------------------------------------------

    def _begin(self) -> Any:
        self._database.ensure(metadata)
        return self._database.begin()

    def _stored(self, connection: sa.Connection, identifier: str) -> str | None:
        where = (table.c.kind == self.declared.kind) & (table.c.identifier == identifier)
        return connection.execute(sa.select(table.c.fields).where(where)).scalar()

    def _is_secret(self, name: str) -> bool:
        field = self.declared.fields.get(name)
        return field is not None and field.secret

    def _keeps(self, name: str, value: Any) -> bool:
        return self._is_secret(name) and value == CENSORED

    def _sealed(self, identifier: str, values: Mapping[str, Any]) -> str:
        key, fields = self._keys.newest, dict(values)
        for name in filter(self._is_secret, values):
            if values[name]:
                plain = str(values[name]).encode()
                fields[name] = [key.id, key.encrypt(plain, self._place(identifier, name)).hex()]
        return json.dumps(fields)

    def _opened(self, identifier: str, text: str, *, lenient: bool = False) -> dict[str, Any]:
        stored = json.loads(text)
        values = {name: stored.get(name, field.default) for name, field in self.declared.fields.items()}
        for name in filter(self._is_secret, values):
            if isinstance(values[name], list):
                try:
                    key_id, sealed = values[name]
                    plain = self._keys.get(key_id).decrypt(bytes.fromhex(sealed), self._place(identifier, name))
                    values[name] = plain.decode()
                except DecodeError as error:
                    if not lenient:
                        told = f"{self.declared.kind} {identifier!r}: {name} can't be decrypted ({error}); set it anew"
                        raise DefinitionError([told]) from error
                    values[name] = ""
        return values

    def _place(self, identifier: str, name: str) -> bytes:
        """Associated data: a secret can't be moved to another definition or field."""
        return json.dumps([self.declared.kind, identifier, name]).encode()

    def _missing(self, identifier: str) -> str:
        return f"there is no {self.declared.kind} {identifier!r}"


def _converted(field: Field, value: Any) -> Any:
    """:raises ValueError: that tells what was expected."""
    if value is None or (value == "" and field.kind is not str):
        if field.required:
            raise ValueError("expected a value, found none")
        return field.default
    typed = _typed(field, value)
    if field.required and typed == "":
        raise ValueError("expected a value, found none")
    fault = field.check(typed) if field.check is not None else None
    if fault:
        raise ValueError(fault)
    return typed


def _typed(field: Field, value: Any) -> Any:
    shown = f"a {type(value).__name__}" if field.secret else repr(value)
    if field.kind is bool:
        text = str(value).strip().lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise ValueError(f"expected true or false, found {shown}")
    if field.kind is str:
        if isinstance(value, str):
            return value
        raise ValueError(f"expected a text, found {shown}")
    try:
        if isinstance(value, bool):
            raise ValueError
        number = field.kind(value)
        if number != number or number in (float("inf"), float("-inf")):
            raise ValueError
        return number
    except (TypeError, ValueError, OverflowError):
        what = "a whole number" if field.kind is int else "a number"
        raise ValueError(f"expected {what}, found {shown}") from None


def _unknown(name: str, fields: Mapping[str, Field]) -> str:
    close = difflib.get_close_matches(name, fields, n=1)
    return f"{name}: expected the name of a field, found another; " + (
        f"did you mean {close[0]!r}?" if close else f"there are {', '.join(fields)}"
    )
