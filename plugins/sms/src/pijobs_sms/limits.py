"""Limits the SMS per hour to one number and by one gateway, over all processes, queued or not.

An SMS costs money, and anyone who can trigger one can trigger many. The counts are in the database of the definitions,
not in the queue's storage: so they include SMS sent in the request, also while the storage does not answer. They are
kept by minute. The minute an hour ago counts as a whole, so that no hour has more SMS than the limit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pijobs import Settings
from pijobs.base import clock, threads
from pijobs.database import Database
from pijobs.errors import DatabaseConflict

#: Minutes of a window.
HOUR = 60

metadata = sa.MetaData()
table = sa.Table(
    "pijobs_sms_limit",
    metadata,
    # The keyed hash of a gateway's name or of a phone number.
    sa.Column("name", sa.String(64), primary_key=True),
    # A JSON object: number by minute since the epoch.
    sa.Column("minutes", sa.Text, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False, index=True),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)


class Limits:
    """The limits, as one process counts them.

    :param now: returns seconds since the epoch.
    """

    def __init__(self, database: Database, now: Callable[[], float] | None = None) -> None:
        self._database = database
        self._now = now or clock.time
        # By process: a fork copies a held lock.
        self._locks: dict[int, threads.Lock] = {}

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits of an installation."""
        return settings.resource(cls, lambda: cls(Database.of(settings)))

    def take(self, limits: Mapping[str, int]) -> str | None:
        """Count one SMS for all limits, or for none.

        :param limits: by name, the most SMS per hour; 0: no limit.
        :returns: None if it was counted, else the name whose limit is reached.
        :raises DatabaseError: if it was not counted.
        """
        bounded = {name: limit for name, limit in sorted(limits.items()) if limit}
        if not bounded:
            return None
        # One thread at a time, since SQLite's lock is not fair to many. Late ones only read.
        with self._locks.setdefault(os.getpid(), threads.Lock()):
            self._database.ensure(metadata)
            with self._database.read() as connection:
                counts = self._counts(connection, bounded)
            if (reached := _reached(counts, bounded)) is not None:
                return reached
            for name in bounded.keys() - counts.keys():
                self._add_row(name)
            return self._database.run(lambda connection: self._taken(connection, bounded))

    def give_back(self, limits: Mapping[str, int]) -> None:
        """Take back the count of an SMS that was certainly not sent.

        :raises DatabaseError: if it stays counted.
        """

        def work(connection: Connection) -> None:
            for name, minutes in self._counts(connection, limits, lock=True).items():
                if limits[name] and minutes:
                    newest = max(minutes)
                    self._write(connection, name, {**minutes, newest: minutes[newest] - 1})

        self._database.run(work)

    def _add_row(self, name: str) -> None:
        """Create rows in a separate transaction, so that counting locks only existing rows, in one order."""
        with suppress(DatabaseConflict), self._database.begin() as connection:  # another process was first
            connection.execute(table.insert().values(name=name, minutes="{}", last=self._minute))
        with suppress(DatabaseConflict), self._database.begin() as connection:  # tried again for the next new number
            connection.execute(table.delete().where(table.c.last < self._minute - HOUR))

    def _taken(self, connection: Connection, limits: Mapping[str, int]) -> str | None:
        counts = self._counts(connection, limits, lock=True)
        if (reached := _reached(counts, limits)) is not None:
            return reached
        if counts.keys() != limits.keys():
            raise DatabaseConflict("a row of the limits of SMS went away")
        for name, minutes in counts.items():
            self._write(connection, name, {**minutes, self._minute: minutes.get(self._minute, 0) + 1})
        return None

    def _counts(self, connection: Connection, names: Iterable[str], *, lock: bool = False) -> dict[str, dict[int, int]]:
        """The counts of the window, by name and minute, without names that have no row."""
        counts = {}
        for name in sorted(names):
            query = sa.select(table.c.minutes).where(table.c.name == name)
            text = connection.execute(query.with_for_update() if lock else query).scalar()
            if text is not None:
                minutes = {int(minute): number for minute, number in json.loads(text).items()}
                counts[name] = {at: number for at, number in minutes.items() if at >= self._minute - HOUR and number}
        return counts

    def _write(self, connection: Connection, name: str, minutes: Mapping[int, int]) -> None:
        row = {"minutes": json.dumps(minutes), "last": self._minute}
        connection.execute(table.update().where(table.c.name == name).values(**row))

    @property
    def _minute(self) -> int:
        return int(self._now() // 60)


def _reached(counts: Mapping[str, Mapping[int, int]], limits: Mapping[str, int]) -> str | None:
    """The first name whose limit is reached."""
    return next((name for name, limit in limits.items() if sum(counts.get(name, {}).values()) >= limit), None)
