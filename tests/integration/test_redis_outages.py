"""What a request and a worker see when Redis goes away, says no, or loses its memory."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from integration.live_sessions import leased_after_beats, live_session
from integration.redis_server import Server, new_instance, open_session, opened, running
from services import free_port, wait_until

from pijobs.errors import StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.redis import RedisStorage
from pijobs.storage.values import End

TIMEOUT = 0.25
#: Seconds that a slow machine may take on top of the time-out; what has no bound takes far longer.
GRACE = 4.0
#: A time-out that is surely noticed.
LONG = 20.0


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def storage(server: Server) -> Iterator[RedisStorage]:
    with opened(server.url) as storage:
        yield storage


def refusal(storage: RedisStorage, *, timeout: float = TIMEOUT, within: float = TIMEOUT + GRACE) -> StorageUnavailable:
    """The error of an enqueue that has to fail in time."""
    start = time.monotonic()
    with pytest.raises(StorageUnavailable) as caught:
        storage.enqueue(new_instance(), timeout=timeout)
    assert time.monotonic() - start < within
    return caught.value


def enqueue_when_up(storage: RedisStorage) -> None:
    def stored() -> bool:
        try:
            return storage.enqueue(new_instance(), timeout=TIMEOUT).fresh
        except StorageUnavailable:
            return False

    wait_until(stored, what="an enqueue after the outage")


def test_scripts_are_taught_again_after_they_were_flushed(server: Server, storage: RedisStorage) -> None:
    storage.enqueue(new_instance(), timeout=5)
    server.client.script_flush()
    assert storage.enqueue(new_instance(), timeout=5).fresh
    assert sum(storage.depths().counts.values()) == 2


def test_a_refused_connection_is_told_at_once_without_its_password() -> None:
    with opened(f"redis://user:s3cret@127.0.0.1:{free_port()}/0") as storage:
        error = refusal(storage)
    assert "refused" in str(error).lower() and "s3cret" not in str(error)
    assert error.__cause__ is not None


def test_a_server_that_never_answers_costs_one_timeout_and_no_more() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silence,
        opened(f"redis://127.0.0.1:{silence.getsockname()[1]}/0") as storage,
    ):
        refusal(storage)
        for _ in range(5):
            refusal(storage, timeout=LONG)


def test_a_wrong_password_is_told_at_once() -> None:
    with running(password="right") as server, opened(server.url, password="wrong") as storage:
        error = refusal(storage)
        assert "password" in str(error) and "wrong" not in str(error)


def test_a_read_only_replica_refuses_and_a_promoted_one_takes_again() -> None:
    with (
        running() as primary,
        running("--replicaof", "127.0.0.1", str(primary.port)) as replica,
        opened(replica.url) as storage,
    ):
        assert "read-only" in str(refusal(storage))
        with pytest.raises(StorageUnavailable):
            storage.step("session", [], want=1)
        replica.client.replicaof("NO", "ONE")
        enqueue_when_up(storage)


def test_a_frozen_server_costs_one_timeout_and_is_used_again_when_it_thaws(
    server: Server, storage: RedisStorage
) -> None:
    storage.enqueue(new_instance(), timeout=5)
    server.freeze()
    refusal(storage)
    for _ in range(5):
        refusal(storage, timeout=LONG)
    server.thaw()
    enqueue_when_up(storage)


def test_the_first_enqueue_after_a_restart_is_stored(storage: RedisStorage, server: Server) -> None:
    storage.enqueue(new_instance(), timeout=5)
    server.process.terminate()
    server.process.wait()
    with running(port=server.port):
        assert storage.enqueue(new_instance(), timeout=5).fresh


def test_a_storage_that_was_not_there_at_first_is_found_later() -> None:
    port = free_port()
    with opened(f"redis://127.0.0.1:{port}/0") as storage:
        refusal(storage)
        with running(port=port):
            enqueue_when_up(storage)


# -- a full memory ---------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(server: Server, storage: RedisStorage) -> Server:
    """A server with some queued instances."""
    for _ in range(3):
        storage.enqueue(new_instance(), timeout=5)
    return server


def use_up(server: Server) -> None:
    server.client.config_set("maxmemory-policy", "noeviction")
    server.client.config_set("maxmemory", "1")


def test_a_full_memory_refuses_what_is_new_and_changes_nothing(filled: Server, storage: RedisStorage) -> None:
    use_up(filled)
    before = filled.client.dbsize()
    assert "memory" in str(refusal(storage))
    assert filled.client.dbsize() == before


def test_workers_still_empty_a_queue_whose_memory_is_used_up(filled: Server, storage: RedisStorage) -> None:
    session = open_session(storage)
    use_up(filled)
    leases = storage.step(session, [], want=2).leases
    ends = [End(lease.id, lease.token, State.DONE) for lease in leases]
    assert storage.beat(session, lease=10_000).alive
    step = storage.step(session, ends, want=5)
    assert (len(leases), step.lost, len(step.leases)) == (2, [], 1)


# -- forks -----------------------------------------------------------------------------------------------------------


#: Python 3.12 and later warn of what these tests are about.
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def in_child(what: Callable[[], bool]) -> bool:
    """Whether it came true in a forked process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if what() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@forks
def test_a_storage_used_before_a_fork_works_in_parent_and_child(storage: RedisStorage) -> None:
    mine, theirs = new_instance(), new_instance()
    storage.enqueue(mine, timeout=5)
    storage.depths()
    assert in_child(lambda: storage.enqueue(theirs, timeout=5).fresh and storage.get(mine.id).state is State.QUEUED)
    assert storage.get(theirs.id).state is State.QUEUED
    assert storage.enqueue(new_instance(), timeout=5).fresh


@forks
def test_a_child_uses_no_connection_of_its_parent(server: Server, storage: RedisStorage) -> None:
    storage.enqueue(new_instance(), timeout=5)
    own = {client["id"] for client in server.client.client_list()}

    def answers_on_another_connection() -> bool:
        storage.enqueue(new_instance(), timeout=5)
        last = {client["id"]: client["cmd"] for client in server.client.client_list()}
        return any(one not in own and command == "evalsha" for one, command in last.items())

    assert in_child(answers_on_another_connection)


def test_a_lease_behind_a_wait_that_was_refused_goes_back() -> None:
    with running() as server, opened(server.url) as storage:
        session = live_session(storage)
        session.step([], want=1)  # teaches the script
        new = new_instance()
        storage.enqueue(new, timeout=5)
        # The token of another worker, which took it and died: nothing wakes this one.
        server.client.delete(storage._prefix + "wake")
        with ThreadPoolExecutor(1) as pool:
            step = pool.submit(session.step, [], wait=20, want=1)
            wait_until(lambda: blocked(server) is not None, what="a worker that waits")
            server.command("CLIENT", "UNBLOCK", str(blocked(server)), "ERROR")
            with pytest.raises(StorageUnavailable):
                step.result(20)
        assert server.client.hget(f"{storage._prefix}i:{new.id}", "state") == b"running"
        assert leased_after_beats(session).id == new.id


def blocked(server: Server) -> int | None:
    return next((int(one["id"]) for one in server.client.client_list() if one["cmd"] == "blpop"), None)
