"""Appends to the audit log, reads it, and erases a person's texts."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pijobs.audit.entries import NOTHING, Entry, Link, link, person_hash
from pijobs.audit.tables import entries, head, metadata
from pijobs.base import clock
from pijobs.database import Database
from pijobs.errors import DatabaseError
from pijobs.payload.keys import KeyRing
from pijobs.settings import Settings

log = logging.getLogger("pijobs.audit")

#: Entries between two removals of expired entries, and the most that one removes.
PRUNE_EVERY, PRUNE_MOST = 100, 1000
#: Most refusals that each process stores per hour; further ones are only logged. Strangers cause them, and must not
#: fill the database.
MOST_REFUSALS = 200
ERASE, PRUNE = "person.erase", "audit.prune"
_HOUR = 3600.0
_COLUMNS = ("seq", "at", "key", "who", "about", "body", "digest", "seal", "plain")


class AuditLog:
    """The audit log of an installation.

    Each method except :meth:`record` raises :class:`~pijobs.errors.DatabaseError` when the database fails.

    :param keep: seconds to keep entries; None: forever.
    """

    def __init__(
        self, database: Database, ring: KeyRing, keep: float | None, clock: Callable[[], float] = clock.time
    ) -> None:
        self._database, self._ring, self._keep, self._clock = database, ring, keep, clock
        self._refusals: deque[float] = deque(maxlen=MOST_REFUSALS)

    @classmethod
    def of(cls, settings: Settings) -> AuditLog:
        """The audit log of an installation."""
        make = cls._of
        return settings.resource(cls, lambda: make(settings))

    @classmethod
    def _of(cls, settings: Settings) -> AuditLog:
        return cls(Database.of(settings), KeyRing.of(settings), settings.audit_keep)

    def record(self, entry: Entry) -> None:
        """Log the entry, and append it. If the database fails, log an error and raise none: the audited action is done
        already."""
        log.log(logging.INFO if entry.outcome == "done" else logging.WARNING, "%s", entry.line())
        if entry.outcome == "refused" and self._too_many_refusals():
            return
        try:
            self.append(entry)
        except DatabaseError as error:
            log.error("%s is not in the audit log: %s", entry.act, error)

    def append(self, entry: Entry) -> Link:
        """Chain an entry to the last one."""
        self._database.ensure(metadata)
        return self._database.run(lambda connection: self._append(connection, entry))

    def newest(
        self, *, who: str | None = None, act: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[Link]:
        """The newest entries first.

        :param who: only entries by or about this person.
        :param act: only acts that begin with this text, such as ``"job."``.
        :param before: only entries with a smaller ``seq``.
        """
        query = sa.select(entries).order_by(entries.c.seq.desc())
        if who is not None:
            query = query.where(self._of_person(who))
        found: list[Link] = []
        for one in self._pages(query, before):
            if act is None or str(one.content["act"]).startswith(act):
                found.append(one)
            if len(found) >= limit:
                break
        return found

    def all(self) -> Iterator[Link]:
        """All entries, the oldest first."""
        last = 0
        while rows := self._rows(sa.select(entries).where(entries.c.seq > last).order_by(entries.c.seq).limit(500)):
            yield from rows
            last = rows[-1].seq

    def head(self) -> tuple[int, str]:
        """Number and digest of the last entry; (0, :data:`NOTHING`) for an empty log."""
        if not self._database.has(metadata):
            return 0, NOTHING
        with self._database.read() as connection:
            row = connection.execute(sa.select(head)).first()
        return (0, NOTHING) if row is None else (row.seq, row.digest)

    def erase(self, name: str, entry: Entry) -> int:
        """Erase the personal texts of all entries by or about a person.

        :param entry: who erased; appended to the log, with the person's hashes.
        :returns: the number of changed entries.
        """
        hashes = tuple(person_hash(self._ring.get(id), name) for id in self._ring.ids)
        erasure = Entry(
            ERASE, who=entry.who, role=entry.role, address=entry.address, fields=hashes, reason=entry.reason
        )

        def work(connection: Connection) -> int:
            gone = entries.update().where(self._of_person(name), entries.c.plain.is_not(None)).values(plain=None)
            number = connection.execute(gone).rowcount
            self._append(connection, erasure)
            return number

        self._database.ensure(metadata)
        return self._database.run(work)

    def _append(self, connection: Connection, entry: Entry) -> Link:
        row = connection.execute(sa.select(head).with_for_update()).first()
        if row is None:
            connection.execute(head.insert().values(one=1, seq=0, digest=NOTHING))
        seq, before = (0, NOTHING) if row is None else (row.seq, row.digest)
        made = link(entry, self._ring.newest, seq=seq + 1, at=int(self._clock() * 1000), before=before)
        connection.execute(entries.insert().values({name: getattr(made, name) for name in _COLUMNS}))
        connection.execute(head.update().values(seq=made.seq, digest=made.digest))
        if made.seq % PRUNE_EVERY == 0 and self._keep is not None:
            self._prune(connection, int((self._clock() - self._keep) * 1000))
        return made

    def _prune(self, connection: Connection, oldest: int) -> None:
        """Remove the oldest entries, and append an entry that records where the chain begins now."""
        kept = sa.select(sa.func.min(entries.c.seq)).where(entries.c.at >= oldest)
        first = connection.execute(sa.select(sa.func.min(entries.c.seq))).scalar_one()
        through = min(connection.execute(kept).scalar_one() - 1, first + PRUNE_MOST - 1)
        if through < first:
            return
        last = connection.execute(sa.select(entries.c.digest).where(entries.c.seq == through)).scalar_one()
        connection.execute(entries.delete().where(entries.c.seq <= through))
        self._append(connection, Entry(PRUNE, who="pijobs", fields=(str(through), last)))

    def _of_person(self, name: str) -> sa.ColumnElement[bool]:
        hashes = [person_hash(self._ring.get(id), name) for id in self._ring.ids]
        return entries.c.who.in_(hashes) | entries.c.about.in_(hashes)

    def _pages(self, query: Any, before: int | None) -> Iterator[Link]:
        while rows := self._rows((query if before is None else query.where(entries.c.seq < before)).limit(200)):
            yield from rows
            before = rows[-1].seq

    def _rows(self, query: Any) -> list[Link]:
        if not self._database.has(metadata):
            return []
        with self._database.read() as connection:
            return [Link(*(getattr(row, name) for name in _COLUMNS)) for row in connection.execute(query)]

    def _too_many_refusals(self) -> bool:
        now = self._clock()
        if len(self._refusals) == MOST_REFUSALS and now - self._refusals[0] < _HOUR:
            return True
        self._refusals.append(now)
        return False
