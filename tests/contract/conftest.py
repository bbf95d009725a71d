"""The storages, and what the suite needs to work with all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis_groups import cluster

from pijobs.storage.contract import Storage
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.redis import RedisStorage
from pijobs.storage.sql import SqlStorage
from pijobs.storage.values import Retention
from pijobs.testing.clock import ManualClock

from .time_travel import TimeMachine
from .workers import Worker, connected

OpenStorage = Callable[..., Storage]
Advance = Callable[[int], None]
StartWorker = Callable[..., Worker]

SERVERS = {
    "redis": "redis_url", "redis cluster": "redis_cluster_url",
    "postgresql": "postgresql_url", "mariadb": "mariadb_url",
}  # fmt: skip
#: Three masters show that no script leaves its queue; what else a script does, one server shows as well.
CLUSTER = pytest.param("redis cluster", marks=pytest.mark.chaos)


@pytest.fixture(scope="session")
def redis_cluster_url() -> Iterator[str]:
    with cluster() as group:
        yield group.url


@pytest.fixture(params=["memory", "sqlite", "redis", CLUSTER, "postgresql", "mariadb"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which storage."""
    return str(request.param)


@pytest.fixture
def queue() -> str:
    """The name of a queue that no other test uses."""
    return f"contract-{uuid4().hex}"


@pytest.fixture
def time_machine(kind: str, queue: str, tmp_path: Path, request: pytest.FixtureRequest) -> TimeMachine:
    """Has the clock of the storages of this test."""
    url = request.getfixturevalue(SERVERS[kind]) if kind in SERVERS else f"sqlite:///{tmp_path}/queue.sqlite"
    return TimeMachine(kind, url, queue)


@pytest.fixture
def open_storage(time_machine: TimeMachine) -> Iterator[OpenStorage]:
    """Make another object for the queue of this test, or for one of another name."""
    with ExitStack() as opened:

        def open_one(retention: Retention | None = None, *, name: str = "") -> Storage:
            storage = time_machine.open(retention, name=name)
            opened.callback(storage.close)
            return storage

        yield open_one


def open_kind(kind: str, url: str, queue: str) -> Storage:
    """One object of a storage class, in real time."""
    if kind == "memory":
        return MemoryStorage(queue, clock=ManualClock())
    return RedisStorage(url, queue) if kind.startswith("redis") else SqlStorage(url, queue)


@pytest.fixture
def storage(open_storage: OpenStorage) -> Storage:
    """The storage under test."""
    return connected(open_storage())


@pytest.fixture
def peer(kind: str, storage: Storage, open_storage: OpenStorage) -> Storage:
    """Another object for the same queue, as another process has it (memory has only itself)."""
    return storage if kind == "memory" else connected(open_storage())


@pytest.fixture
def advance(time_machine: TimeMachine) -> Advance:
    """Let so many milliseconds pass on the storage's clock."""
    return time_machine.advance


@pytest.fixture
def start_worker(storage: Storage, advance: Advance) -> StartWorker:
    """Open a session of a worker: ``start_worker(on=storage)``."""

    def start(*, on: Storage | None = None, **info: Any) -> Worker:
        return Worker(on or storage, advance, **info)

    return start


@pytest.fixture
def worker(start_worker: StartWorker) -> Worker:
    """A worker with a live session."""
    return start_worker()
