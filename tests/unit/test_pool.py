"""Connections that are made ahead: nobody waits longer than it wants, and an outage costs one time-out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pijobs.errors import KeyConflict, StorageUnavailable
from pijobs.storage.pool import ConnectionPool


class Place:
    """Something to connect to, which can refuse or hang."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.closed: list[int] = []
        self.attempts = 0
        self.error: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.stale: set[int] = set()

    def connect(self) -> int:
        self.attempts += 1
        self.open.wait(10)
        if self.error is not None:
            raise self.error
        self.made.append(len(self.made) + 1)
        return self.made[-1]

    def close(self, connection: int) -> None:
        self.closed.append(connection)


@pytest.fixture
def place() -> Place:
    return Place()


#: The connectors of other suites that ran in this process before, which may stay around for a while.
FOREIGN: set[threading.Thread] = set()


@pytest.fixture
def pool(place: Place) -> Iterator[ConnectionPool[int]]:
    FOREIGN.clear()
    FOREIGN.update(threads())
    pool = ConnectionPool(
        place.connect,
        place.close,
        size=3,
        retry_after=0.02,
        retry_max=0.05,
        usable=lambda connection: connection not in place.stale,
    )
    yield pool
    place.open.set()
    pool.close()
    for thread in threads():
        thread.join(120)


def fails_within(pool: ConnectionPool[int], seconds: float, timeout: float) -> StorageUnavailable:
    start = time.monotonic()
    with pytest.raises(StorageUnavailable) as caught, pool.take(timeout):
        pass
    assert time.monotonic() - start < seconds
    return caught.value


def take_when_up(pool: ConnectionPool[int]) -> int:
    end = time.monotonic() + 5
    while True:
        try:
            with pool.take(1) as connection:
                return connection
        except StorageUnavailable:
            if time.monotonic() > end:
                raise
            threading.Event().wait(0.005)


def test_nothing_connects_before_the_first_take(pool: ConnectionPool[int], place: Place) -> None:
    assert place.attempts == 0 and not threads()


def test_a_connection_is_used_again(pool: ConnectionPool[int], place: Place) -> None:
    for _ in range(3):
        with pool.take(1) as connection:
            assert connection == 1
    assert place.made == [1]


def test_the_latest_returned_connection_is_lent_first(pool: ConnectionPool[int]) -> None:
    with ExitStack() as first:
        first.enter_context(pool.take(1))
        with pool.take(1) as second:
            pass
        with pool.take(1) as again:
            assert again == second


def test_no_more_connections_than_its_size(pool: ConnectionPool[int], place: Place) -> None:
    with ExitStack() as lent:
        for _ in range(3):
            lent.enter_context(pool.take(1))
        error = fails_within(pool, 0.5, timeout=0.05)
    assert "in use" in str(error)
    with pool.take(0.05):
        assert len(place.made) == 3


def test_a_returned_connection_serves_who_waits(pool: ConnectionPool[int], place: Place) -> None:
    got: list[int] = []

    def wait() -> None:
        with pool.take(5) as connection:
            got.append(connection)

    with ExitStack() as lent:
        for _ in range(3):
            lent.enter_context(pool.take(1))
        waiting = threading.Thread(target=wait)
        waiting.start()
    waiting.join(120)
    assert len(got) == 1 and len(place.made) == 3


def test_a_refused_connection_fails_all_who_wait_with_its_cause(pool: ConnectionPool[int], place: Place) -> None:
    place.error = OSError("refused for user:secret@host")
    error = fails_within(pool, 1, timeout=5)
    assert error.__cause__ is place.error
    assert "secret" not in str(error)


def test_after_a_failure_takes_fail_at_once_until_it_has_reconnected(pool: ConnectionPool[int], place: Place) -> None:
    place.error = OSError("refused")
    fails_within(pool, 1, timeout=5)
    for _ in range(20):
        fails_within(pool, 0.05, timeout=5)
    place.error = None
    assert take_when_up(pool) == 1


def test_a_hanging_connect_costs_one_timeout_only(pool: ConnectionPool[int], place: Place) -> None:
    place.open.clear()
    fails_within(pool, 0.4, timeout=0.1)
    for _ in range(20):
        fails_within(pool, 0.05, timeout=5)
    assert place.attempts == 1
    place.open.set()
    assert take_when_up(pool) == 1


def test_connection_trouble_drops_the_connection_and_the_idle_ones(pool: ConnectionPool[int], place: Place) -> None:
    with pytest.raises(StorageUnavailable), pool.take(1):
        with pool.take(1):
            pass
        raise StorageUnavailable
    assert take_when_up(pool) == 3
    assert sorted(place.closed) == [1, 2]


def test_an_answer_that_says_no_keeps_the_connection(pool: ConnectionPool[int], place: Place) -> None:
    with pytest.raises(KeyConflict), pool.take(1):
        raise KeyConflict("x")
    with pool.take(1) as connection:
        assert connection == 1 and not place.closed


def test_an_interrupted_exchange_drops_only_its_connection(pool: ConnectionPool[int], place: Place) -> None:
    with pytest.raises(KeyboardInterrupt), pool.take(1):
        raise KeyboardInterrupt
    with pool.take(1) as connection:
        assert connection == 2
    assert place.closed == [1]


def test_a_connection_that_the_other_side_closed_is_not_lent(pool: ConnectionPool[int], place: Place) -> None:
    with pool.take(1):
        pass
    place.stale.add(1)
    with pool.take(1) as connection:
        assert connection == 2


def test_close_ends_the_thread_and_the_pool_can_be_used_again(pool: ConnectionPool[int], place: Place) -> None:
    with pool.take(1):
        pass
    pool.close()
    assert place.closed == [1]
    place.error = OSError("refused")
    fails_within(pool, 1, timeout=5)
    (thread,) = threads()
    pool.close()
    thread.join(120)
    assert not thread.is_alive()
    place.error = None
    with pool.take(1) as connection:
        assert connection == 2


def test_a_connection_that_is_lent_during_close_is_closed_on_return(pool: ConnectionPool[int], place: Place) -> None:
    with pool.take(1):
        pool.close()
        assert not place.closed
    assert place.closed == [1]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_makes_its_own_connections_and_leaves_its_parents_alone(
    pool: ConnectionPool[int], place: Place
) -> None:
    with pool.take(1) as mine:
        child = os.fork()
        if child == 0:
            with pool.take(1) as own:
                ok = own != mine
            pool.close()
            os._exit(0 if ok and mine not in place.closed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pool.take(1) as again:
        assert again == mine


def threads() -> list[threading.Thread]:
    """The connectors of this test."""
    return [each for each in threading.enumerate() if each.name == "pijobs-connect" and each not in FOREIGN]


# -- who connects ----------------------------------------------------------------------------------------------------


def test_the_calling_thread_connects_where_it_can_be_bounded(place: Place) -> None:
    who: list[tuple[str, float]] = []

    def within(seconds: float) -> int:
        who.append((threading.current_thread().name, seconds))
        return place.connect()

    pool = ConnectionPool(place.connect, place.close, connect_within=within)
    with pool.take(0.5), pool.take(0.5):
        assert not threads()
    assert [name for name, _ in who] == [threading.current_thread().name] * 2
    assert all(0.4 < seconds <= 0.5 for _, seconds in who)
    pool.close()


def test_after_a_failure_in_the_calling_thread_another_one_goes_on_trying(place: Place) -> None:
    def within(seconds: float) -> int:
        raise OSError("refused")

    pool = ConnectionPool(place.connect, place.close, connect_within=within, retry_after=0.01)
    fails_within(pool, 1, timeout=5)
    assert take_when_up(pool) == 1
    pool.close()


def test_no_thread_stays_when_it_has_connected(pool: ConnectionPool[int]) -> None:
    with pool.take(1):
        pass
    for thread in threads():
        thread.join(120)
    assert not threads()


def test_where_no_thread_may_start_the_caller_connects(
    pool: ConnectionPool[int], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("pijobs.base.clock.monotonic", lambda: now[0])
    monkeypatch.setattr("pijobs.base.threads.may_start", lambda: False)
    place.error = OSError("refused")
    for _ in range(2):
        with pytest.raises(StorageUnavailable), pool.take(5):
            pass
    assert place.attempts == 1, "the second one came before the time to try again"
    place.error = None
    now[0] += 1
    with pool.take(5) as connection:
        assert connection == 1 and not threads()


def test_a_connection_that_broke_takes_no_other_call_with_it(place: Place) -> None:
    pool = ConnectionPool(place.connect, place.close, connect_within=lambda seconds: place.connect())
    with pytest.raises(StorageUnavailable), pool.take(5):
        raise StorageUnavailable("connection reset")
    with pool.take(5) as connection:
        assert connection == 2
    pool.close()


def test_a_server_that_fell_silent_costs_one_call_its_time(place: Place) -> None:
    pool = ConnectionPool(place.connect, place.close, connect_within=lambda seconds: place.connect())
    place.open.clear()
    place.open.set()
    with pytest.raises(StorageUnavailable), pool.take(0.05):
        place.open.clear()
        threading.Event().wait(0.06)
        raise StorageUnavailable("no answer in time")
    fails_within(pool, 0.5, timeout=5)
    place.open.set()
    assert take_when_up(pool) > 1
    pool.close()
