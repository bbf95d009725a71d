"""The clock of a storage, and opening and closing it."""

from __future__ import annotations

import threading
import time

from pijobs.storage.contract import Storage

from .conftest import Advance, OpenStorage
from .time_travel import TimeMachine
from .workers import enqueue


def test_now_is_in_milliseconds_since_the_epoch(storage: Storage, time_machine: TimeMachine) -> None:
    storage.ping()
    expected = time_machine.time()
    assert abs(storage.now() - expected * 1000) < 1000


def test_now_is_known_before_the_first_answer(storage: Storage, time_machine: TimeMachine) -> None:
    expected = time_machine.time()
    assert abs(storage.now() - expected * 1000) < 1000


def test_now_goes_on(storage: Storage, advance: Advance) -> None:
    storage.ping()
    before = storage.now()
    advance(30)
    assert 30 <= storage.now() - before < 5000


def test_two_objects_have_the_same_time(storage: Storage, peer: Storage) -> None:
    storage.ping()
    peer.ping()
    assert abs(storage.now() - peer.now()) < 200


def test_now_costs_no_round_trip(storage: Storage) -> None:
    storage.ping()

    def thousand() -> float:
        start = time.monotonic()
        for _ in range(1000):
            storage.now()
        return time.monotonic() - start

    # The best of some: another process may have the processor in any of them.
    assert min(thousand() for _ in range(10)) < 0.1


def test_closing_ends_all_threads(open_storage: OpenStorage) -> None:
    before = set(threading.enumerate())
    storage = open_storage()
    storage.ping()
    enqueue(storage)
    storage.wait(0.05)
    storage.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(120)
        assert not thread.is_alive()


def test_closing_twice_does_nothing(storage: Storage) -> None:
    enqueue(storage)
    storage.close()
    storage.close()


def test_closing_what_was_never_used_does_nothing(open_storage: OpenStorage) -> None:
    open_storage().close()


def test_another_object_sees_the_same_queue(storage: Storage, peer: Storage) -> None:
    instance = enqueue(storage)
    assert peer.get(instance) == storage.get(instance)


def test_the_url_for_people_is_a_url(storage: Storage) -> None:
    assert "://" in storage.display_url
