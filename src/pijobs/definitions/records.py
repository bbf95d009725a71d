"""Records beside the definitions: which ones were deleted, and the id of the database."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pijobs.base import clock, threads
from pijobs.database import Database
from pijobs.definitions.tables import deleted, identity, remembered
from pijobs.definitions.tables import metadata as definitions
from pijobs.errors import ConfigurationError, DatabaseError
from pijobs.settings import Settings

#: Deletions that are kept for each kind; the oldest are removed first.
MAX_DELETED = 1000
#: Seconds between two reads of the database's id.
LOOK_EVERY = 10.0


def _place(kind: str, identifier: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return deleted.c.kind == kind, deleted.c.identifier == identifier


def remember_deletion(connection: Connection, kind: str, identifier: str) -> None:
    """Part of the transaction that deletes a definition."""
    forget_deletion(connection, kind, identifier)
    connection.execute(deleted.insert().values(kind=kind, identifier=identifier, at=round(clock.time() * 1000)))
    newest = sa.select(deleted.c.at).where(deleted.c.kind == kind).order_by(deleted.c.at.desc())
    oldest_kept = connection.execute(newest.offset(MAX_DELETED - 1).limit(1)).scalar()
    if oldest_kept is not None:
        connection.execute(deleted.delete().where(deleted.c.kind == kind, deleted.c.at < oldest_kept))


def forget_deletion(connection: Connection, kind: str, identifier: str) -> None:
    """Part of the transaction that saves a definition."""
    connection.execute(deleted.delete().where(*_place(kind, identifier)))


def was_deleted(database: Database, kind: str, identifier: str) -> bool:
    """Whether the deletion is on record.

    :raises DatabaseError: if the database does not answer.
    """
    if not database.has(remembered):
        return False
    with database.read() as connection:
        return connection.execute(sa.select(deleted.c.at).where(*_place(kind, identifier))).first() is not None


def ensure_identity(connection: Connection) -> None:
    """Part of the transaction that saves a definition: give the database an id if it has none."""
    if connection.execute(sa.select(identity.c.id)).first() is None:
        connection.execute(identity.insert().values(one=1, id=uuid.uuid4().hex))


class Fingerprint:
    """Identifies a database of definitions; workers write it to the storage. It is a resource of the settings: a plugin
    that uses the definitions of a host sets its own, with another :meth:`_read`.

    The id is in the database, because two hosts may have the same URL and different databases, or the reverse. For an
    SQLite file it includes the inode, because a copy on another host has the same id.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._looked = float("-inf")
        self._looking = threads.Lock()
        #: The last one that was read; "" for a database without definitions, None for one that did not answer.
        self.value: str | None = None

    @property
    def _database(self) -> Database:
        """:raises ConfigurationError: the setting can't be used. This must not end a worker: its jobs report it."""
        return Database.of(self._settings)

    @property
    def place(self) -> str:
        """Where the database is, for people."""
        try:
            return self._database.place
        except ConfigurationError as error:
            return str(error)

    @classmethod
    def of(cls, settings: Settings) -> Fingerprint:
        """That of an installation."""
        return settings.resource(cls, lambda: cls(settings))

    def read(self, *, make: bool = False) -> str | None:
        """Ask the database.

        :param make: give a database with definitions an id if it has none, because it is of an older release.
        """
        self._looked = clock.monotonic()
        try:
            self.value = self._read(make)
        except (DatabaseError, ConfigurationError):
            self.value = None
        return self.value

    def key_ids(self) -> Mapping[str, int]:
        """How many secrets of definitions there are under each key; none if the database does not answer."""
        from pijobs.definitions.rotation import key_ids

        try:
            return key_ids(self._settings)
        except (DatabaseError, ConfigurationError):
            return {}

    def read_if_old(self) -> None:
        """:meth:`read` in a worker, at most every :data:`LOOK_EVERY` seconds, by one thread at a time."""
        if clock.monotonic() - self._looked >= LOOK_EVERY and self._looking.acquire(blocking=False):
            try:
                self.read(make=True)
            finally:
                self._looking.release()

    def _read(self, make: bool) -> str | None:
        if not self._database.has(definitions):
            return ""
        found = self._id()
        if found is None and make:
            self._database.ensure(remembered)
            self._database.run(ensure_identity)
            found = self._id()
        return None if found is None else _hashed(found, self._database.file)

    def _id(self) -> str | None:
        if not self._database.has(remembered):
            return None
        with self._database.read() as connection:
            return connection.execute(sa.select(identity.c.id)).scalar()


def _hashed(found: str, file: Path | None) -> str:
    parts: list[Any] = [found]
    if file is not None:
        parts.append(file.stat().st_ino)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
