"""How many SMS leave in an hour: to one number and by one gateway, over all processes, queued or not.

An SMS costs money, and whoever can trigger one can trigger many. The numbers are kept in the database of the
definitions, and not in the queue's storage: an SMS that is sent in the request counts, too, and a storage that is away
opens no hole. Counted by minutes: what began in the minute an hour ago still counts, so that no window of an hour has
more than the limit.
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

#: Minutes that a window has.
HOUR = 60

metadata = sa.MetaData()
table = sa.Table(
    "pijobs_sms_limit",
    metadata,
    # The keyed hash of a gateway's name or of a phone number.
    sa.Column("name", sa.String(64), primary_key=True),
    # A JSON object: minute since the epoch → how many.
    sa.Column("minutes", sa.Text, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False, index=True),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)


class Limits:
    """What one process counts.

    :param now: seconds since the epoch.
    """

    def __init__(self, database: Database, now: Callable[[], float] | None = None) -> None:
        self._database = database
        self._now = now or clock.time
        # By process: a fork copies a lock as it is.
        self._locks: dict[int, threads.Lock] = {}

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Those of an installation."""
        return settings.resource(cls, lambda: cls(Database.of(settings)))

    def take(self, limits: Mapping[str, int]) -> str | None:
        """Count one SMS against all of the limits, or against none.

        :param limits: names with how many there may be in an hour; 0: no limit.
        :returns: None when it was counted, else the name that has reached its limit.
        :raises DatabaseError: it was not counted.
        """
        bounded = {name: limit for name, limit in sorted(limits.items()) if limit}
        if not bounded:
            return None
        # One of a process at a time: SQLite's lock is not fair to many. Those who come too late only read.
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
        """An SMS that was counted was certainly not sent.

        :raises DatabaseError: it stays counted.
        """

        def work(connection: Connection) -> None:
            for name, minutes in self._counts(connection, limits, lock=True).items():
                if limits[name] and minutes:
                    newest = max(minutes)
                    self._write(connection, name, {**minutes, newest: minutes[newest] - 1})

        self._database.run(work)

    def _add_row(self, name: str) -> None:
        """In a transaction of its own: those that count lock only rows that are there, in one order."""
        with suppress(DatabaseConflict), self._database.begin() as connection:  # somebody else did it
            connection.execute(table.insert().values(name=name, minutes="{}", last=self._minute))
        with suppress(DatabaseConflict), self._database.begin() as connection:  # the next new number is soon enough
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
        """What still counts, by name and minute; without the names that have no row."""
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
