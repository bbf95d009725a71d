"""The storages of histories in a database."""

from __future__ import annotations

import functools
import os
import secrets
import sqlite3
import weakref
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from pijobs.storage import protocol
from pijobs.storage.contract import Storage
from pijobs.storage.sql import SqlStorage
from pijobs.storage.sql.connection import Link
from pijobs.storage.sql.connection_sources import LocalLane, ServerLane
from pijobs.storage.sql.dialects.sqlite import Sqlite
from pijobs.storage.sql.process_state import Live
from pijobs.storage.sql.schema import instance, meta, metadata, queue
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.served_places import Served, names
from pijobs.testing.simulation.world import Host, Process, World

TABLES = [
    (table, table.c.name if table is queue else table.c.queue)
    for table in metadata.tables.values()
    if table is not meta
]


class _DatabaseTime:
    """Replaces :class:`pijobs.storage.sql.transactions.DatabaseClock` by the history's clock."""

    known = fresh = True

    def __init__(self, place: Place) -> None:
        self._place = place

    def heard(self, now_us: int, before: float) -> None:
        """Ignore the database's time."""

    def now_us(self) -> int:
        return int(self._place.time() * 1e6)


class Database:
    """The database of a run."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
        self._run = secrets.token_hex(4)

    def queue_name(self) -> str:
        """A new name."""
        return f"{self._run}-{next(names)}"


class Simulated(SqlStorage):
    """A SQL storage with the history's time, and counted connections."""

    place: SqlPlace

    def _begin_to_live(self) -> Live:
        live = super()._begin_to_live()
        live.clock = _DatabaseTime(self.place)  # type: ignore[assignment]
        if isinstance(lane := live.durable, ServerLane):
            # The first call comes before the history begins, so no thread of it can connect.
            lane._pool._connect_within = lambda _: lane.connect()
        for lane in (live.durable, live.quick):
            if isinstance(lane, LocalLane):
                lane.connect = functools.partial(self.place.noted, os.getpid(), lane.connect)  # type: ignore[method-assign]
        return live


class SqlPlace(Served):
    """A queue in a database."""

    truth: Simulated

    def __init__(self, world: World, name: str, host: Host, *, database: Database) -> None:
        self._database = database
        #: Connections of each process.
        self._links: dict[int, weakref.WeakSet[Link]] = {}
        self.shares_connections = database.engine.dialect.name != "sqlite"
        super().__init__(world, name, host)

    def _read(self) -> Any:
        with self._database.engine.connect() as link:
            return [
                [dict(row._mapping) for row in link.execute(table.select().where(column == self.truth.name))]
                for table, column in TABLES
            ]

    def _write(self, held: Any) -> None:
        with self._database.engine.begin() as link:
            for (table, column), rows in zip(TABLES, held or [[]] * len(TABLES), strict=True):
                link.execute(table.delete().where(column == self.truth.name))
                if rows:
                    link.execute(table.insert(), rows)

    def _spoil(self, instance_id: str) -> None:
        is_it = sa.and_(instance.c.queue == self.truth.name, instance.c.id == instance_id)
        with self._database.engine.begin() as link:
            link.execute(instance.update().where(is_it).values(body=b"spoilt"))

    def _make(self) -> Storage:
        storage = Simulated(self._database.url, self._database.queue_name())
        storage._dialect.clock = Sqlite.clock
        storage.place = self
        return storage

    def noted(self, pid: int, connect: Callable[[], Link]) -> Link:
        """Make a connection, and count it for the process."""
        link = connect()
        self._links.setdefault(pid, weakref.WeakSet()).add(link)
        return link

    def connections_of(self, process: Process) -> int:
        return sum(map(_is_open, self._links.get(process.pid, ())))

    def close(self) -> None:
        # The protocol belongs to all queues of a database: reset it.
        self.truth.set_protocol(protocol.FIRST, oldest_reader=protocol.FIRST)
        for live in self.truth._lives.values():
            live.close()


def _is_open(link: Link) -> bool:
    try:
        return bool(link.connection.total_changes >= 0)
    except sqlite3.Error:
        return False
