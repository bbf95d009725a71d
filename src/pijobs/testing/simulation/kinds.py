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

    def remember(self) -> None:
        """Not of these: what they acknowledged is on a disk."""

    go_back = empty = remember

    def damage(self) -> None:
        return None

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
    from pijobs.storage.sql import SqlStorage
    from pijobs.storage.sql.dialect import Sqlite

    class SqlPlace(_Served):
        def _make(self) -> Storage:
            storage = SqlStorage(url, f"{os.getpid()}-{next(_names)}")
            storage._dialect.clock = Sqlite.clock
            storage._live.clock = _DatabaseTime(self)  # type: ignore[assignment]
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

        def empty(self) -> None:
            for key in client.scan_iter(f"{self.truth._prefix}*"):  # type: ignore[attr-defined]
                client.delete(key)
            self.losses.append((self.world.now, "emptied"))

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
