"""How idle workers wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import Lease

from .conftest import Advance, StartWorker
from .test_groups import decide
from .workers import LONG, Worker, enqueue, new_instance

#: Seconds in which a waiting worker must have noticed; far below the time that it waits for.
SOON = 4.0
PATIENCE = 20.0


class Waiter(threading.Thread):
    """Waits and takes one lease, as a worker does."""

    def __init__(self, worker: Worker, *, floor: int | None = None, once: bool = False) -> None:
        super().__init__(daemon=True)
        self.worker, self.floor, self.once = worker, floor, once
        self.waiting, self.stop = threading.Event(), threading.Event()
        self.lease: Lease | None = None
        self.ended = 0.0

    def run(self) -> None:
        while not self.stop.is_set():
            step = self.worker.step(want=1, floor=self.floor)
            self.waiting.set()
            if step.leases:
                self.lease = step.leases[0]
                break
            now = self.worker.storage.now()
            until_due = PATIENCE if step.next_due is None else max(0.0, (step.next_due - now) / 1000)
            self.worker.storage.wait(min(PATIENCE, until_due), floor=self.floor)
            if self.once:
                break
        self.ended = time.monotonic()


@contextmanager
def waiting(worker: Worker, *, floor: int | None = None, once: bool = False) -> Iterator[Waiter]:
    waiter = Waiter(worker, floor=floor, once=once)
    waiter.start()
    assert waiter.waiting.wait(120)
    yield waiter
    waiter.stop.set()
    worker.storage.wake()
    waiter.join(120)
    assert not waiter.is_alive()


def noticed(waiter: Waiter, cause: Callable[[], object]) -> float:
    """Seconds from the cause until the worker had its lease."""
    start = time.monotonic()
    cause()
    waiter.join(PATIENCE)
    assert waiter.lease is not None
    return waiter.ended - start


def test_an_enqueue_wakes_a_waiting_worker(storage: Storage, peer: Storage, worker: Worker) -> None:
    with waiting(worker) as waiter:
        assert noticed(waiter, lambda: enqueue(peer)) < SOON


def test_every_enqueue_wakes_a_waiting_worker(storage: Storage, peer: Storage, worker: Worker) -> None:
    for _ in range(5):
        with waiting(worker) as waiter:
            assert noticed(waiter, lambda: enqueue(peer)) < SOON


def test_several_enqueues_wake_several_workers(storage: Storage, peer: Storage, start_worker: StartWorker) -> None:
    waiters = [Waiter(start_worker()) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
        assert waiter.waiting.wait(120)
    start = time.monotonic()
    ids = {enqueue(peer) for _ in range(3)}
    for waiter in waiters:
        waiter.join(PATIENCE)
    assert {waiter.lease.id for waiter in waiters if waiter.lease} == ids
    assert max(waiter.ended for waiter in waiters) - start < SOON


def test_a_periodic_enqueue_wakes_a_waiting_worker(storage: Storage, peer: Storage, worker: Worker) -> None:
    with waiting(worker) as waiter:
        assert noticed(waiter, lambda: peer.enqueue_periodic(new_instance(), due=storage.now())) < SOON


def test_a_reserved_worker_is_woken_by_its_priority(storage: Storage, peer: Storage, worker: Worker) -> None:
    with waiting(worker, floor=10) as waiter:
        enqueue(peer, priority=0)
        assert noticed(waiter, lambda: enqueue(peer, priority=10)) < SOON
        assert waiter.lease is not None and waiter.lease.priority == 10


def test_a_low_enqueue_reaches_the_worker_that_may_take_it(
    storage: Storage, peer: Storage, start_worker: StartWorker
) -> None:
    with waiting(start_worker(), floor=10) as reserved, waiting(start_worker()) as common:
        assert noticed(common, lambda: enqueue(peer, priority=0)) < SOON
        assert reserved.lease is None


def test_an_instance_given_back_wakes_a_waiting_worker(
    storage: Storage, peer: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    enqueue(storage)
    lease = worker.take_one()
    with waiting(start_worker()) as waiter:
        assert noticed(waiter, lambda: worker.end(lease, State.QUEUED, counted=False)) < SOON


def test_a_closed_session_wakes_a_waiting_worker(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    enqueue(storage)
    worker.take_one()
    with waiting(start_worker()) as waiter:
        assert noticed(waiter, lambda: storage.close_session(worker.session)) < SOON


def test_a_recovered_instance_wakes_a_waiting_worker(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    enqueue(storage)
    worker.take_one()
    other = start_worker()
    worker.fall_silent()
    with waiting(start_worker()) as waiter:
        assert noticed(waiter, other.beat) < SOON


def test_room_in_a_full_group_wakes_a_waiting_worker(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    for _ in range(2):
        enqueue(storage, group="narrow", limit=1)
    lease = worker.take_one()
    with waiting(start_worker()) as waiter:
        assert noticed(waiter, lambda: worker.end(lease, State.DONE)) < SOON


def test_resuming_wakes_a_waiting_worker(storage: Storage, peer: Storage, worker: Worker) -> None:
    storage.pause()
    enqueue(storage)
    with waiting(worker) as waiter:
        assert noticed(waiter, peer.resume) < SOON


def test_resuming_a_group_wakes_a_waiting_worker(storage: Storage, peer: Storage, worker: Worker) -> None:
    storage.pause("group")
    enqueue(storage, group="group")
    with waiting(worker) as waiter:
        assert noticed(waiter, lambda: peer.resume("group")) < SOON


def test_a_raised_limit_wakes_a_waiting_worker(storage: Storage, peer: Storage, worker: Worker) -> None:
    enqueue(storage, group="narrow", limit=0)
    with waiting(worker) as waiter:
        assert noticed(waiter, lambda: decide(peer, "narrow", limit=1)) < SOON


def test_a_retry_wakes_a_waiting_worker(storage: Storage, peer: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    worker.run(instance, State.DEAD)
    with waiting(worker) as waiter:
        assert noticed(waiter, lambda: peer.retry(instance)) < SOON


def test_a_block_that_ends_wakes_a_waiting_worker(storage: Storage, worker: Worker, advance: Advance) -> None:
    decide(storage, "down", blocked_until=storage.now() + 300)
    enqueue(storage, group="down")
    with waiting(worker) as waiter:
        assert noticed(waiter, lambda: advance(300)) < 0.3 + SOON


def test_a_due_instance_is_taken_by_a_worker_that_waits_as_told(
    storage: Storage, peer: Storage, worker: Worker, advance: Advance
) -> None:
    enqueue(peer, due=storage.now() + 300)
    with waiting(worker) as waiter:
        assert noticed(waiter, lambda: advance(300)) < 0.3 + SOON


def test_wake_ends_a_wait(storage: Storage, worker: Worker) -> None:
    with waiting(worker, once=True) as waiter:
        start = time.monotonic()
        # The thread may still be on its way into wait().
        while waiter.is_alive() and time.monotonic() < start + 5:
            storage.wake()
            waiter.join(0.05)
        assert time.monotonic() - start < SOON
        assert waiter.lease is None


def test_wait_ends_after_its_timeout(storage: Storage, worker: Worker) -> None:
    worker.step(want=1)
    start = time.monotonic()
    storage.wait(0.1)
    assert time.monotonic() - start < 0.1 + SOON


def test_an_idle_worker_does_not_spin(storage: Storage, worker: Worker) -> None:
    enqueue(storage, due=storage.now() + LONG)
    start = time.monotonic()
    for _ in range(5):
        assert worker.take() == []
        storage.wait(0.1)
    assert time.monotonic() - start > 0.25


def test_waiting_does_not_keep_others_from_working(storage: Storage, worker: Worker) -> None:
    with waiting(worker, floor=1000):
        start = time.monotonic()
        for _ in range(10):
            enqueue(storage)
        assert time.monotonic() - start < SOON


def test_how_many_of_a_job_wait_is_counted_up_to_a_number(storage: Storage, worker: Worker) -> None:
    assert storage.waiting("test.job", most=10) == (0, None)
    worker.run(enqueue(storage), State.DONE)
    enqueue(storage, name="test.other")
    first = enqueue(storage)
    for due in (None, storage.now() + LONG):
        enqueue(storage, due=due)
    assert storage.waiting("test.job", most=10, timeout=5) == (3, storage.get(first).due)
    assert storage.waiting("test.job", most=2)[0] == 2
