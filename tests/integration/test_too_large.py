"""A value that is too large for its server is a fault of the instance, and no outage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from integration.redis_server import running
from services import wait_until

from pijobs.errors import InstanceRefused, StorageUnavailable
from pijobs.jobs import State
from pijobs.payload.codec import Codec
from pijobs.payload.keys import KeyRing
from pijobs.request.spool import HOLD, Mover
from pijobs.storage.contract import Storage
from pijobs.storage.redis import RedisStorage
from pijobs.storage.sql import SqlStorage
from pijobs.storage.values import NewInstance, Retention

#: More than a server of these tests takes.
TOO_LARGE = 2_000_000
#: Of SQLite's C API; Python has its name from 3.11 on.
SQLITE_LIMIT_LENGTH = 0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def redis(stack: ExitStack) -> Storage:
    """A Redis that takes values of 1 MB."""
    server = stack.enter_context(running("--proto-max-bulk-len", "1mb"))
    storage = RedisStorage(server.url, "large")
    stack.callback(storage.close)
    return storage


def new(body: bytes = b"x") -> NewInstance:
    return NewInstance(id=uuid4().hex, name="test.job", envelope=b"e", body=body, group="test.job")


def test_redis_refuses_the_instance_and_takes_the_next(redis: Storage) -> None:
    redis.enqueue(new(), timeout=5)
    with pytest.raises(InstanceRefused, match="invalid bulk length"):
        redis.enqueue(new(bytes(TOO_LARGE)), timeout=5)
    assert redis.enqueue(new(), timeout=5).state is State.QUEUED


def test_sqlite_refuses_the_instance_and_takes_the_next(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = SqlStorage(f"sqlite:///{tmp_path}/queue.sqlite", "large", retention=Retention())
    stack.callback(storage.close)
    storage.enqueue(new(), timeout=5)
    for link in storage._live.durable._idle:  # type: ignore[attr-defined]
        link.connection.execute("PRAGMA busy_timeout=0")
        if not hasattr(link.connection, "setlimit"):
            pytest.skip("Python 3.10 can't lower the limits of SQLite")
        link.connection.setlimit(SQLITE_LIMIT_LENGTH, TOO_LARGE // 2)
    with pytest.raises(InstanceRefused, match="SQLite refused a value"):
        storage.enqueue(new(bytes(TOO_LARGE)), timeout=5)
    assert storage.enqueue(new(), timeout=5).state is State.QUEUED


def test_mariadb_refuses_the_instance_for_which_the_server_would_hang_up(mariadb_url: str, stack: ExitStack) -> None:
    storage = SqlStorage(mariadb_url, f"large-{uuid4().hex}")
    stack.callback(storage.close)
    storage.enqueue(new(), timeout=10)
    assert storage._dialect.largest is not None and storage._dialect.largest > TOO_LARGE
    storage._dialect.largest = TOO_LARGE
    with pytest.raises(InstanceRefused, match=r"an instance of 2\.0 MB; raise max_allowed_packet"):
        storage.enqueue(new(bytes(TOO_LARGE)), timeout=5)
    assert storage.enqueue(new(), timeout=5).state is State.QUEUED


def test_one_that_is_too_large_leaves_the_spool_as_a_dead_letter_and_lets_the_others_by(
    redis: Storage, tmp_path: Path, stack: ExitStack
) -> None:
    spool = SqlStorage(f"sqlite:///{tmp_path}/spool.sqlite", "large")
    stack.callback(spool.close)
    poison, *behind = new(bytes(TOO_LARGE)), new(), new()
    for one in (poison, *behind):
        spool.enqueue(one, timeout=5)
    mover = Mover(spool, redis, lambda: Codec(KeyRing(["key"])), timeout=1)

    def empty() -> bool:
        with suppress(StorageUnavailable):
            mover.move()
        return {name[1] for name in spool.depths().counts} == {State.DEAD}

    wait_until(empty, 10 * HOLD, what="the move")
    assert spool.get(poison.id).state is State.DEAD
    assert {redis.get(one.id).state for one in behind} == {State.QUEUED}
