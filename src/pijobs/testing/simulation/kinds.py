"""The storages that a history can be played on. All but that in memory are shared by the processes of a history, as
one object: each call to it is one atomic operation, whoever makes it."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.world import Host, World

MakePlace = Callable[[World, str, Host], Place]
_names = itertools.count()


@contextmanager
def _memory(url: str) -> Iterator[MakePlace]:
    yield Place


class _Served(Place):
    """A storage that waits and keeps time by itself, unless it is told not to."""

    waits_inside = False

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
    from pijobs.storage.sql.connection_sources import ServerLane
    from pijobs.storage.sql.dialect import Sqlite
    from pijobs.storage.sql.schema import instance, meta, metadata, queue

    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    tables = [(table, table.c.name if table is queue else table.c.queue) for table in metadata.tables.values()
              if table is not meta]  # fmt: skip

    class SqlPlace(_Served):
        truth: SqlStorage

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
            storage = SqlStorage(url, f"{os.getpid()}-{next(_names)}")
            storage._dialect.clock = Sqlite.clock
            storage._live.clock = _DatabaseTime(self)  # type: ignore[assignment]
            if isinstance(lane := storage._live.durable, ServerLane):
                # The first call comes before a history begins, when no thread of it can connect.
                lane._pool._connect_within = lambda _: lane.connect()
            return storage

    yield SqlPlace


@contextmanager
def _sqlite(url: str) -> Iterator[MakePlace]:
    memory = "/dev/shm"  # noqa: S108 - what is simulated needs no disk
    place = tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)
    with place as folder, _sql(f"sqlite:///{Path(folder) / 'queue'}") as make:
        yield make


@contextmanager
def _redis(url: str) -> Iterator[MakePlace]:
    import redis

    from pijobs.storage.contract import Retention
    from pijobs.storage.redis import RedisStorage
    from pijobs.storage.redis.scripts import Scripts

    client: Any = redis.Redis.from_url(url)
    now = "redis.call('HMGET', 'simulated-time', 'seconds', 'micros')"

    class Simulated(RedisStorage):
        place: Place

        def try_out(self) -> None:
            """Its scripts are its own, and ask for the server's time."""

        def _ask_time(self, timeout: float) -> None:
            super()._ask_time(timeout)
            self._offset = None
            self._learn_time(self.place.time() * 1000, self.place.world.now)

    class RedisPlace(_Served):
        def _make(self) -> Storage:
            storage = Simulated(url, f"{os.getpid()}-{next(_names)}")
            storage._scripts = Scripts(Retention(), now=now)
            storage.place = self
            return storage

        def before_call(self) -> None:
            micros = int(self.time() * 1e6)
            client.hset("simulated-time", mapping={"seconds": micros // 10**6, "micros": micros % 10**6})

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

    yield RedisPlace
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
