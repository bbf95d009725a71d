"""The definitions of one kind in the database of an installation."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pijobs.base.files import is_looking
from pijobs.database import Database
from pijobs.definitions import records
from pijobs.definitions.declaration import Declaration
from pijobs.definitions.fields import CENSORED, IDENTIFIER, MAX_IDENTIFIER, UNREADABLE
from pijobs.definitions.sealing import Sealer, Stored, json_object
from pijobs.definitions.secrets import censored
from pijobs.definitions.tables import metadata, remembered, table
from pijobs.errors import DefinitionDeleted, DefinitionError, DefinitionNotFound, DefinitionUnreadable, PijobsError
from pijobs.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The definitions that were read since the database last changed."""

    version: Hashable | None = None
    definitions: dict[str, dict[str, Any]] = field(default_factory=dict)


class Definitions(Declaration):
    """The declaration of a kind of definition, which a plugin makes once.

    :param kind: such as ``"smtpserver"``; names of different kinds do not meet.
    :param fields: without ``identifier`` and ``enqueue_job``, which all definitions have.
    :param choice: name of the text field whose value chooses the further fields of a definition.
    :param variants: the further fields by that value.
    :param in_clear: given a definition and the settings, says in sentences what of it others on the network can read.
        Such a definition is not saved. One that was saved before still works.
    :raises ValueError: for an invalid name, or one that occurs twice.
    """

    def open(self, settings: Settings) -> DefinitionStore:
        """The definitions of an installation; connects to nothing yet."""
        return settings.resource((DefinitionStore, self), lambda: DefinitionStore(self, settings))


class DefinitionStore:
    """The definitions of one kind, see :class:`~pijobs.definitions.Definitions`.

    A definition is a dictionary of all fields, with ``identifier`` and ``enqueue_job``.
    Every method except :meth:`check` and :meth:`censored` raises :class:`~pijobs.errors.DatabaseError` if the database
    fails.
    """

    def __init__(self, declaration: Declaration, settings: Settings) -> None:
        #: Of their fields.
        self.declaration = declaration
        self._settings = settings
        self._database = Database.of(settings)
        self._sealer = Sealer(declaration, settings)
        self._kept = _Kept()

    @property
    def kind(self) -> str:
        """Such as ``"smtpserver"``."""
        return self.declaration.kind

    @property
    def place(self) -> str:
        """Where the database is, for people."""
        return self._database.place

    def list(self) -> dict[str, dict[str, Any]]:
        """All definitions by identifier, secrets in the clear.

        One with a secret that can't be read is listed, too: that secret is None, and a further entry ``unreadable``
        tells by field why.
        """
        if not self._database.has(metadata):
            return {}
        with self._database.read() as connection:
            query = sa.select(table).where(table.c.kind == self.declaration.kind).order_by(table.c.identifier)
            rows = connection.execute(query).all()
        listed = {}
        for row in rows:
            stored = self._sealer.open(row)
            self._protect(row.identifier, stored)
            listed[row.identifier] = self._definition(row.identifier, stored)
            if stored.lost:
                listed[row.identifier][UNREADABLE] = stored.lost
        return listed

    def get(self, identifier: str) -> dict[str, Any]:
        """One definition, secrets in the clear, in its present state. It is cached until the database changes, if the
        database can report changes.

        :raises DefinitionNotFound: for an identifier that is not in this database; :class:`DefinitionDeleted` if the
            database has a record of its deletion.
        :raises DefinitionUnreadable: if this process does not have the key of a secret (yet).
        """
        # Read first: a change in between is read again, and never missed.
        version, kept = self._database.version(), self._kept
        if kept.version != version:
            kept = self._kept = _Kept(version)
        if version is None:
            return self._read(identifier)
        if identifier not in kept.definitions:
            kept.definitions[identifier] = self._read(identifier)
        definition = dict(kept.definitions[identifier])
        for name, declared in self.declaration.fields_of(definition).items():
            if declared.kind is dict and definition[name]:
                definition[name] = dict(definition[name])
        return definition

    def _read(self, identifier: str) -> dict[str, Any]:
        stored = self._stored(identifier)
        if stored is None:
            known = not _identifier_fault(identifier, {})
            deleted = known and records.was_deleted(self._database, self.kind, identifier)
            raise (DefinitionDeleted if deleted else DefinitionNotFound)(self.kind, identifier)
        self._protect(identifier, stored)
        if stored.lost:
            raise DefinitionUnreadable(self.declaration.kind, identifier, stored.lost)
        return self._definition(identifier, stored)

    def _stored(self, identifier: str) -> Stored | None:
        if not self._database.has(metadata):
            return None
        with self._database.read() as connection:
            return self._find(connection, identifier)

    def left_in_clear(self) -> dict[str, tuple[str, ...]]:
        """By identifier, the secrets that an older release did not know as such. :meth:`list` and :meth:`get` encrypt
        them, unless the caller only looks, or may not write."""
        if not self._database.has(metadata):
            return {}
        with self._database.read() as connection:
            rows = connection.execute(sa.select(table).where(table.c.kind == self.kind)).all()
        return {row.identifier: tuple(sorted(bare)) for row in rows if (bare := self._sealer.open(row).bare)}

    def save(self, identifier: str, values: Mapping[str, Any]) -> None:
        """Create a definition, or change what is given of one. All its secrets are encrypted by the newest key.

        :param values: None counts as not given; ``"__CENSORED__"`` keeps a stored secret.
        :raises DefinitionError: with all faults of the definition, including what would be sent unencrypted.
        """
        fault = _identifier_fault(identifier, values)
        self._ensure_tables()

        def work(connection: Connection) -> None:
            known = self._find(connection, identifier, lock=True) if not fault else None
            stored = known or Stored({}, {})
            try:
                validated = self.declaration.validate(values, stored.values, stored.lost)
            except DefinitionError as error:
                raise DefinitionError([*fault, *error.faults]) from None
            if faults := fault or self.in_clear(identifier, validated):
                raise DefinitionError(faults)
            row = self._sealer.columns(identifier, validated)
            if known is None:
                connection.execute(table.insert().values(kind=self.declaration.kind, identifier=identifier, **row))
            else:
                connection.execute(table.update().where(*self._place(identifier)).values(**row))
            records.forget_deletion(connection, self.kind, identifier)
            records.ensure_identity(connection)

        self._database.run(work)

    def delete(self, identifier: str) -> None:
        """:raises DefinitionNotFound: for an unknown identifier."""
        self._ensure_tables()

        def work(connection: Connection) -> int:
            found = connection.execute(table.delete().where(*self._place(identifier))).rowcount
            if found:
                records.remember_deletion(connection, self.kind, identifier)
            return found

        if _identifier_fault(identifier, {}) or not self._database.run(work):
            raise DefinitionNotFound(self.declaration.kind, identifier)

    def check(self, values: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The values of a definition that is not saved, converted and with defaults, without an identifier.

        :param stored: the definition that they would change.
        :raises DefinitionError: with all faults.
        """
        return self.declaration.validate(values, stored or {}, {})

    def in_clear(self, identifier: str, values: Mapping[str, Any]) -> tuple[str, ...]:
        """What of a whole definition others on the network could read, see :class:`Definitions`."""
        return tuple(self.declaration.in_clear({**values, IDENTIFIER: identifier}, self._settings))

    def censored(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """A definition as people may see it. An empty secret is shown as empty."""
        fields, unreadable = self.declaration.fields_of(definition), definition.get(UNREADABLE, ())
        hidden = {
            name: CENSORED if name in unreadable else censored(fields[name].typed(definition.get(name)))
            for name in self.declaration.secrets_of(definition)
            if name in definition
        }
        return {**definition, **hidden}

    def _ensure_tables(self) -> None:
        self._database.ensure(metadata)
        self._database.ensure(remembered)

    def _definition(self, identifier: str, stored: Stored) -> dict[str, Any]:
        # A secret that can't be read has no value; the name of a variant that is not loaded has.
        lost = {name: None for name in stored.lost if name not in stored.values}
        values = self.declaration.complete({**stored.values, **lost})
        return {IDENTIFIER: identifier, **values}

    def _place(self, identifier: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
        return table.c.kind == self.declaration.kind, table.c.identifier == identifier

    def _find(self, connection: Connection, identifier: str, *, lock: bool = False) -> Stored | None:
        if _identifier_fault(identifier, {}):
            return None
        query = sa.select(table).where(*self._place(identifier))
        row = connection.execute(query.with_for_update() if lock else query).first()
        return None if row is None else self._sealer.open(row)

    def _protect(self, identifier: str, stored: Stored) -> None:
        """Encrypt what an older release stored unencrypted. A caller that only looks, or may not write, leaves it to
        others."""
        if not stored.bare or is_looking():
            return

        def work(connection: Connection) -> None:
            row = connection.execute(sa.select(table).where(*self._place(identifier)).with_for_update()).first()
            if row is None or not (bare := self._sealer.open(row).bare):
                return
            content, secrets = json_object(row.content), json_object(row.secrets)
            sealed = {name: self._sealer.seal(identifier, name, content.pop(name)) for name in sorted(bare)}
            secrets = {**sealed, **secrets}
            columns = {"content": json.dumps(content), "secrets": json.dumps(secrets)}
            if connection.dialect.name == "sqlite":  # the old content is overwritten
                connection.exec_driver_sql("PRAGMA secure_delete = ON")
            connection.execute(table.update().where(*self._place(identifier)).values(**columns))

        try:
            self._database.run(work)
            log.warning(
                "%s %r: %s was stored unencrypted, and is encrypted now", self.kind, identifier, ", ".join(stored.bare)
            )
        except PijobsError as error:
            log.error("%s %r: %s is stored unencrypted: %s", self.kind, identifier, ", ".join(stored.bare), error)


def _identifier_fault(identifier: str, values: Mapping[str, Any]) -> list[str]:
    if not (0 < len(identifier) <= MAX_IDENTIFIER and identifier.isprintable() and identifier == identifier.strip()):
        return [f"identifier: expected a text of 1 to {MAX_IDENTIFIER} characters in one line, found another one"]
    if "/" in identifier or identifier in (".", ".."):
        return ["identifier: expected a part of an address, without a slash and not just dots, found another text"]
    if values.get(IDENTIFIER) not in (None, identifier):
        return [f"identifier: expected {identifier!r} as in the address, found another one; a name can't be changed"]
    return []
