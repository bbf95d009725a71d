"""Storages whose clock a test moves on, so that no test waits for time to pass.

Each asks its server's clock as ever, by scripts and statements that add what the test had it skip. (Threads wait by the
clock of this host all the same, and so does a Redis that lets a key expire.)
"""

from __future__ import annotations

import time
from functools import cache, partial
from typing import Any

import sqlalchemy as sa

from pijobs.storage.contract import Storage
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.redis import RedisStorage
from pijobs.storage.redis.scripts import Scripts
from pijobs.storage.redis.topology import key_prefix
from pijobs.storage.sql import SqlStorage
from pijobs.storage.sql.dialects.sqlite import Sqlite
from pijobs.storage.sql.process_state import Live
from pijobs.storage.sql.transactions import DatabaseClock, Tx
from pijobs.storage.values import Retention
from pijobs.testing.clock import ManualClock

#: Milliseconds by which a storage may be wrong about the time of its server, on a busy machine.
SLACK = 2_000

skips = sa.Table(
    "contract_time", sa.MetaData(),
    sa.Column("queue", sa.String(80), primary_key=True), sa.Column("us", sa.BigInteger, nullable=False),
)  # fmt: skip


class TimeMachine:
    """Opens storages, and moves the clock that all of them ask."""

    def __init__(self, kind: str, url: str, queue: str) -> None:
        self._kind, self._url, self._queue = kind, url, queue
        self._clock = ManualClock()
        self._opened: list[TravellingRedis | TravellingSql] = []
        self.skipped_us = 0

    def open(self, retention: Retention | None = None, *, name: str = "") -> Storage:
        """:param name: of another queue than the machine's."""
        queue, retention = name or self._queue, retention or Retention()
        if self._kind == "memory":
            return MemoryStorage(queue, clock=self._clock, retention=retention)
        storage: TravellingRedis | TravellingSql
        if self._kind.startswith("redis"):
            storage = TravellingRedis(self._url, queue, retention=retention)
        else:
            storage = TravellingSql(self._url, queue, retention=retention, machine=self)
        self._opened.append(storage)
        return storage

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._clock.time() if self._kind == "memory" else time.time() + self.skipped_us / 1e6

    def advance(self, ms: int) -> None:
        """Let so many milliseconds pass, and :data:`SLACK`."""
        self._clock.advance(ms / 1000)
        self._skip(ms + SLACK)

    def set_back(self, ms: int) -> None:
        """Somebody sets the clock back by so many milliseconds."""
        self._clock._start -= ms / 1000
        self._skip(-ms)

    def _skip(self, ms: int) -> None:
        self.skipped_us += ms * 1000
        for storage in self._opened:
            storage.travel(self.skipped_us)


class TravellingRedis(RedisStorage):
    def __init__(self, url: str, queue: str, *, retention: Retention) -> None:
        super().__init__(url, queue, retention=retention)
        # In the hash slot of the queue, and not among its keys.
        self._skipped = f"contract-time:{key_prefix(queue)}"
        travelled = f"{{time[1], time[2] + (redis.call('GET', '{self._skipped}') or 0)}}"
        machine_time = f"(function() local time = redis.call('TIME') return {travelled} end)()"
        self._scripts = Scripts(retention, now=machine_time)

    def travel(self, skipped_us: int) -> None:
        with self._requests.take(5) as wire:
            wire.ask(5, "SET", self._skipped, skipped_us)
        self._offset = None
        self._ask_time(5)

    def _ask_time(self, timeout: float) -> None:
        self._run_on(self._requests, timeout, self._scripts.read, ("get", "nobody"))


class TravellingSql(SqlStorage):
    def __init__(self, url: str, queue: str, *, retention: Retention, machine: TimeMachine) -> None:
        super().__init__(url, queue, retention=retention)
        self._machine = machine
        if not isinstance(self._dialect, Sqlite):
            _make_table(url)
            told, named = _QUEUE_OF_SESSION[self._dialect.name]
            self._dialect.settings += (told.format(queue),)
            self._dialect.clock = _travelled(self._dialect.clock, named)

    def _begin_to_live(self) -> Live:
        live = super()._begin_to_live()
        if isinstance(self._dialect, Sqlite):
            live.clock = _TravellingClock(self._machine)
        return live

    def travel(self, skipped_us: int) -> None:
        if not isinstance(self._dialect, Sqlite):
            self._run(partial(_note, self.name, skipped_us))
        self.ping()


class _TravellingClock(DatabaseClock):
    def __init__(self, machine: TimeMachine) -> None:
        super().__init__(own=True)
        self._machine = machine

    def now_us(self) -> int:
        return super().now_us() + self._machine.skipped_us


def _note(queue: str, skipped_us: int, tx: Tx) -> None:
    tx.link.run(f"DELETE FROM contract_time WHERE queue = '{queue}'")
    tx.link.run(f"INSERT INTO contract_time VALUES ('{queue}', {skipped_us})")


#: By the name of the dialect: how a session is told its queue, and how a statement asks for it. So the statements are
#: the same for all queues, and are compiled once.
_QUEUE_OF_SESSION = {
    "PostgreSQL": ("SET contract.queue = '{}'", "current_setting('contract.queue')"),
    "MariaDB/MySQL": ("SET @contract_queue = '{}'", "@contract_queue"),
}


@cache
def _travelled(clock: sa.ColumnElement[Any], queue: str) -> sa.ColumnElement[Any]:
    found = sa.select(skips.c.us).where(skips.c.queue == sa.literal_column(queue)).scalar_subquery()
    return clock + sa.func.coalesce(found, sa.literal_column("0"))


@cache
def _make_table(url: str) -> None:
    skips.metadata.create_all(sa.create_engine(url, poolclass=sa.pool.NullPool))
