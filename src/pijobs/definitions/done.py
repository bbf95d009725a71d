"""What workers did, in the database of definitions: somebody who can write to the queue's storage can't change it."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from pijobs.base import clock
from pijobs.database import Database, exact_text
from pijobs.errors import PijobsError
from pijobs.settings import Settings

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Marks that are kept for a queue, in whole rows; the oldest are removed first. Nobody reads more.
MARKS = 50_000
#: Rows that one process appends between two searches for old rows. It does not use the numbers of rows: other queues,
#: and a cluster whose servers have separate numbers, may use the numbers that a rule waits for.
_PRUNE_EVERY = 200
#: Rows that are read again: of two transactions, the one with the smaller number may be committed later.
_OVERLAP = 100
#: Seconds for which a database that did not answer is not asked again.
_LEFT_ALONE = 60.0

metadata = sa.MetaData()
table = sa.Table(
    "pijobs_done",
    metadata,
    # SQLite numbers rows only if the type is INTEGER.
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("queue", exact_text(64), nullable=False, index=True),
    sa.Column("marks", sa.LargeBinary(), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)


class Ledger:
    """Rows of marks that one queue's workers append. An error is logged once, and stops no job."""

    #: Marks: MariaDB's BLOB ends at 64 kB.
    most_in_row = 4000

    def __init__(self, database: Database, queue: str) -> None:
        self._database, self._queue = database, queue
        self._last = 0
        self._appended = 0
        self._away_until = float("-inf")
        self._told = False

    @classmethod
    def of(cls, settings: Settings, queue: str) -> Ledger | None:
        """The one of an installation; None if it has no usable database."""
        try:
            return cls(Database.of(settings), queue)
        except PijobsError:
            return None

    def append(self, marks: Sequence[int]) -> bool:
        """Whether the marks are stored."""

        def store() -> bool:
            self._database.ensure(metadata)
            self._database.run(lambda connection: connection.execute(row))
            if self._appended % _PRUNE_EVERY == 0:
                self._prune()
            self._appended += 1
            return True

        row = table.insert().values(queue=self._queue, marks=_packed(marks))
        return self._asked(store) or False

    def _prune(self) -> None:
        """Searched before the transaction that deletes, so that no other writer of the database waits for the
        search."""
        sizes = sa.select(table.c.seq, sa.func.length(table.c.marks).label("size")).where(table.c.queue == self._queue)
        kept = 0
        with self._database.read() as connection:
            for row in connection.execute(sizes.order_by(table.c.seq.desc())):
                kept += row.size // 8
                if kept >= MARKS:
                    oldest = row.seq
                    break
            else:
                return
        old = table.delete().where(table.c.queue == self._queue, table.c.seq < oldest)
        self._database.run(lambda connection: connection.execute(old))

    def new(self, most: int) -> list[int]:
        """Marks that were appended since the last call, the newest at the end; ``most`` at the first call."""
        return self._asked(lambda: self._read(most)) or []

    def _read(self, most: int) -> list[int]:
        if not self._database.has(metadata):
            return []
        query = table.select().where(table.c.queue == self._queue, table.c.seq > self._last - _OVERLAP)
        rows: list[Any] = []
        number = 0
        with self._database.read() as connection:
            for row in connection.execute(query.order_by(table.c.seq.desc()).limit(most)):
                rows.append(row)
                number += len(row.marks) // 8
                if number >= most:
                    break
        # The row is missing: a backup was restored, or the table is new, and its numbers begin again.
        self._last = rows[0].seq if rows else 0
        return [mark for row in reversed(rows) for mark in _unpacked(row.marks)]

    def _asked(self, ask: Callable[[], T]) -> T | None:
        """None: it did not answer."""
        if clock.monotonic() < self._away_until:
            return None
        try:
            if (file := self._database.file) is not None and not file.exists():
                return None  # it would belong to this user instead of the server
            return ask()
        except Exception as error:
            self._away_until = clock.monotonic() + _LEFT_ALONE
            if not self._told:
                self._told = True
                log.warning("only this process knows which jobs were done before: %s", error)
            return None


def _packed(marks: Sequence[int]) -> bytes:
    return struct.pack(f">{len(marks)}Q", *marks)


def _unpacked(data: bytes) -> Sequence[int]:
    whole = len(data) // 8
    return struct.unpack(f">{whole}Q", data[: whole * 8])
