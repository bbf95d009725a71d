"""A worker asks for work, the storage leases it, and the answer gets lost: the work must not hang on a live session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.live_sessions import leased_after_beats, live_session
from integration.redis_server import Server, new_instance, opened, running
from integration.sql_proxy import proxy
from services import wait_until

from pijobs.errors import StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.redis import RedisStorage
from pijobs.storage.redis import workers as redis_storage


@pytest.fixture
def server() -> Iterator[Server]:
    with running("--unixsocket", "redis.sock") as server:
        yield server


def is_running(storage: RedisStorage, instance_id: str) -> bool:
    try:
        return storage.get(instance_id).state is State.RUNNING
    except StorageUnavailable:
        return False


def test_redis_gives_back_what_a_lost_answer_leased(server: Server) -> None:
    with (
        proxy(str(Path(server.place, "redis.sock"))) as network,
        opened(f"redis://127.0.0.1:{network.port}/0") as storage,
    ):
        session = live_session(storage)
        session.step([], want=1)  # from now on Redis knows the script by its hash
        stored = storage.enqueue(new_instance(), timeout=5)
        network.swallow_answer_to = storage._scripts.step.sha.encode()
        with pytest.raises(StorageUnavailable):
            session.step([], want=1)
        wait_until(lambda: is_running(storage, stored.id), what="the lease that nobody heard of")
        assert leased_after_beats(session).id == stored.id
        assert storage.get(stored.id).crashes == 0


def test_redis_gives_back_what_was_leased_after_the_worker_had_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_storage, "TIMEOUT", 0.3)
    with opened(server.url) as storage:
        session = live_session(storage)
        stored = storage.enqueue(new_instance(), timeout=5)
        server.freeze()
        with pytest.raises(StorageUnavailable):
            session.step([], want=1)
        server.thaw()
        assert leased_after_beats(session).id == stored.id
