"""Appending to the audit log, reading it, and one person's part in it."""

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

#: Entries between two looks at what is older than the retention, and how many go at once.
PRUNE_EVERY, PRUNE_MOST = 100, 1000
#: Refusals in an hour that each process keeps; more stand in the log of the process only. Strangers cause them, and
#: must not fill the database.
MOST_REFUSALS = 200
ERASE, PRUNE = "person.erase", "audit.prune"
_HOUR = 3600.0
_COLUMNS = ("seq", "at", "key", "who", "about", "body", "digest", "seal", "plain")


class AuditLog:
    """The audit log of an installation.

    Each method but :meth:`record` raises :class:`~pijobs.errors.DatabaseError` when the database does not do its part.

    :param keep: seconds that entries stay; None: for ever.
    """

    def __init__(
        self, database: Database, ring: KeyRing, keep: float | None, clock: Callable[[], float] = clock.time
    ) -> None:
        self._database, self._ring, self._keep, self._clock = database, ring, keep, clock
        self._refusals: deque[float] = deque(maxlen=MOST_REFUSALS)

    @classmethod
    def of(cls, settings: Settings) -> AuditLog:
        """That of an installation."""
        make = cls._of
        return settings.resource(cls, lambda: make(settings))

    @classmethod
    def _of(cls, settings: Settings) -> AuditLog:
        return cls(Database.of(settings), KeyRing.of(settings), settings.audit_keep)

    def record(self, entry: Entry) -> None:
        """Tell the log of the process, and append. What was done stays done when the database is away: that is an
        error in the log, beside the line that tells the act."""
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
        """The newest first.

        :param who: the person who did it, or whom it concerns.
        :param act: or its begin, such as ``"job."``.
        :param before: only entries with a smaller ``seq``.
        """
        query = sa.select(entries).order_by(entries.c.seq.desc())
        if who is not None:
            query = query.where(self._of_person(who))
        found: list[Link] = []
        for one in self._pages(query, before):
            if act is None or str(one.told["act"]).startswith(act):
                found.append(one)
            if len(found) >= limit:
                break
        return found

    def all(self) -> Iterator[Link]:
        """From the first entry on."""
        last = 0
        while rows := self._rows(sa.select(entries).where(entries.c.seq > last).order_by(entries.c.seq).limit(500)):
            yield from rows
            last = rows[-1].seq

    def head(self) -> tuple[int, str]:
        """Number and digest of the last entry."""
        if not self._database.has(metadata):
            return 0, NOTHING
        with self._database.read() as connection:
            row = connection.execute(sa.select(head)).first()
        return (0, NOTHING) if row is None else (row.seq, row.digest)

    def erase(self, name: str, entry: Entry) -> int:
        """Take the words of a person out of all entries that the person made or that concern the person.

        :param entry: who erased; that stands in the log, with the person's hashes.
        :returns: the number of entries.
        """
        hashes = tuple(person_hash(self._ring.get(id), name) for id in self._ring.ids)
        said = Entry(ERASE, who=entry.who, role=entry.role, address=entry.address, fields=hashes, reason=entry.reason)

        def work(connection: Connection) -> int:
            gone = entries.update().where(self._of_person(name), entries.c.plain.is_not(None)).values(plain=None)
            number = connection.execute(gone).rowcount
            self._append(connection, said)
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
        """Remove the oldest entries. The chain then begins where an entry says, which is sealed like all."""
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
