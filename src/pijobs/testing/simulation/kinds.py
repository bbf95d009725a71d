"""The storages that a history can be played on. Each call to one is one atomic operation, whoever makes it.

On Redis and PostgreSQL all processes of a history share the connections."""

from __future__ import annotations

import functools
import itertools
import os
import secrets
import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pijobs.jobs import State
from pijobs.storage import protocol
from pijobs.storage.contract import Storage
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.world import Host, Process, World

if TYPE_CHECKING:
    from pijobs.storage.sql.connection import Link

MakePlace = Callable[[World, str, Host], Place]
_names = itertools.count()


@contextmanager
def _memory(url: str) -> Iterator[MakePlace]:
    yield Place


class _Served(Place):
    """A storage that waits and keeps time by itself, unless it is told not to."""

    waits_inside, shares_connections = False, True

    def _read(self) -> Any:
        """All that it holds."""
        raise NotImplementedError

    def _write(self, held: Any) -> None:
        """In the place of all that it holds; None: nothing."""
        raise NotImplementedError

    def _spoil(self, instance_id: str) -> None:
        raise NotImplementedError

    def remember(self) -> None:
        self._memory = self._read()

    def go_back(self) -> None:
        self._write(self._memory)
        self.losses.append((self.world.now, "restored"))

    def empty(self) -> None:
        self._write(None)
        self.losses.append((self.world.now, "emptied"))

    def damage(self) -> str | None:
        self.before_call()
        waiting = self.truth.page(State.QUEUED, limit=1000).records
        if not waiting:
            return None
        self._spoil(waiting[-1].id)
        return waiting[-1].id

    def close(self) -> None:
        self.truth.close()


class _DatabaseTime:
    """In the place of :class:`pijobs.storage.sql.transactions.DatabaseClock`."""

    known = fresh = True

    def __init__(self, place: Place) -> None:
        self._place = place

    def heard(self, now_us: int, before: float) -> None:
        """It is handed in."""

    def now_us(self) -> int:
        return int(self._place.time() * 1e6)


@contextmanager
def _sql(url: str) -> Iterator[MakePlace]:
    import sqlalchemy as sa

    from pijobs.storage.sql import SqlStorage
    from pijobs.storage.sql.connection_sources import LocalLane, ServerLane
    from pijobs.storage.sql.dialects.sqlite import Sqlite
    from pijobs.storage.sql.process_state import Live
    from pijobs.storage.sql.schema import instance, meta, metadata, queue

    engine, run = sa.create_engine(url, poolclass=sa.pool.NullPool), secrets.token_hex(4)
    tables = [(table, table.c.name if table is queue else table.c.queue) for table in metadata.tables.values()
              if table is not meta]  # fmt: skip

    class Simulated(SqlStorage):
        place: SqlPlace

        def _begin_to_live(self) -> Live:
            live = super()._begin_to_live()
            live.clock = _DatabaseTime(self.place)  # type: ignore[assignment]
            if isinstance(lane := live.durable, ServerLane):
                # The first call comes before a history begins, when no thread of it can connect.
                lane._pool._connect_within = lambda _: lane.connect()
            for lane in (live.durable, live.quick):
                if isinstance(lane, LocalLane):
                    lane.connect = functools.partial(self.place.noted, os.getpid(), lane.connect)  # type: ignore[method-assign]
            return live

    class SqlPlace(_Served):
        truth: Simulated

        def __init__(self, world: World, name: str, host: Host) -> None:
            #: Connections of each process.
            self._links: dict[int, weakref.WeakSet[Link]] = {}
            self.shares_connections = engine.dialect.name != "sqlite"
            super().__init__(world, name, host)

        def _read(self) -> Any:
            with engine.connect() as link:
                return [
                    [dict(row._mapping) for row in link.execute(table.select().where(column == self.truth.name))]
                    for table, column in tables
                ]

        def _write(self, held: Any) -> None:
            with engine.begin() as link:
                for (table, column), rows in zip(tables, held or [[]] * len(tables), strict=True):
                    link.execute(table.delete().where(column == self.truth.name))
                    if rows:
                        link.execute(table.insert(), rows)

        def _spoil(self, instance_id: str) -> None:
            is_it = sa.and_(instance.c.queue == self.truth.name, instance.c.id == instance_id)
            with engine.begin() as link:
                link.execute(instance.update().where(is_it).values(body=b"spoilt"))

        def _make(self) -> Storage:
            storage = Simulated(url, f"{run}-{next(_names)}")
            storage._dialect.clock = Sqlite.clock
            storage.place = self
            return storage

        def noted(self, pid: int, connect: Callable[[], Link]) -> Link:
            link = connect()
            self._links.setdefault(pid, weakref.WeakSet()).add(link)
            return link

        def connections_of(self, process: Process) -> int:
            return sum(map(_is_open, self._links.get(process.pid, ())))

        def close(self) -> None:
            # It is told to all queues of a database.
            self.truth.set_protocol(protocol.FIRST, oldest_reader=protocol.FIRST)
            for live in self.truth._lives.values():
                live.close()

    yield SqlPlace


def _is_open(link: Link) -> bool:
    try:
        return bool(link.connection.total_changes >= 0)
    except sqlite3.Error:
        return False


@contextmanager
def _sqlite(url: str) -> Iterator[MakePlace]:
    memory = "/dev/shm"  # noqa: S108 - what is simulated needs no disk
    place = tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)
    with place as folder, _sql(f"sqlite:///{Path(folder) / 'queue'}") as make:
        yield make


@contextmanager
def _redis(url: str) -> Iterator[MakePlace]:
    import redis

    from pijobs.storage.redis import RedisStorage
    from pijobs.storage.redis.scripts import Scripts
    from pijobs.storage.values import Retention

    client: Any = redis.Redis.from_url(url)
    run = secrets.token_hex(4)
    now = f"redis.call('HMGET', 'simulated-time-{run}', 'seconds', 'micros')"

    class Simulated(RedisStorage):
        place: Place

        def try_out(self) -> None:
            """Its scripts are its own, and ask for the server's time."""

        def _learn_time(self, server: float, sent: float) -> None:
            # Whoever looks from outside of the history hands in no time, and reads that of the last call.
            super()._learn_time(self.place.time() * 1000, self.place.world.now)

    class RedisPlace(_Served):
        def _make(self) -> Storage:
            storage = Simulated(url, f"{run}-{next(_names)}")
            storage._scripts = Scripts(Retention(), now=now)
            storage.place = self
            return storage

        def before_call(self) -> None:
            micros = int(self.time() * 1e6)
            client.hset(f"simulated-time-{run}", mapping={"seconds": micros // 10**6, "micros": micros % 10**6})

        def _keys(self) -> list[bytes]:
            return list(client.scan_iter(f"{self.truth._prefix}*"))  # type: ignore[attr-defined]

        def _read(self) -> Any:
            return {key: client.dump(key) for key in self._keys()}

        def _write(self, held: Any) -> None:
            for key in self._keys():
                client.delete(key)
            for key, value in (held or {}).items():
                client.restore(key, 0, value)

        def _spoil(self, instance_id: str) -> None:
            client.hset(f"{self.truth._prefix}i:{instance_id}", "body", b"spoilt")  # type: ignore[attr-defined]

        def close(self) -> None:
            self._write(None)
            super().close()

    yield RedisPlace
    client.delete(f"simulated-time-{run}")
    client.close()


#: By name; those with a server need its URL.
KINDS: dict[str, Callable[[str], Any]] = {"memory": _memory, "sqlite": _sqlite, "redis": _redis, "postgresql": _sql}


@contextmanager
def kind(name: str, url: str = "") -> Iterator[MakePlace]:
    """Makes the storages of histories.

    :param url: of the server, for a kind that has one.
    """
    if name in ("redis", "postgresql") and not url:
        raise SystemExit(f"a history on {name} needs --url")
    with KINDS[name](url) as make:
        yield make


__all__ = ["KINDS", "MakePlace", "kind"]
