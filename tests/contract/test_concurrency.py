"""Many threads and processes at once."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess

import pytest

from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, Lease

from .conftest import StartWorker
from .workers import LONG, Worker, enqueue, new_instance, store

FORKED = multiprocessing.get_context("fork")

THREADS = 8


def at_once(action: Callable[[int], object], threads: int = THREADS) -> list[object]:
    """Do it in many threads that start together."""
    start = threading.Barrier(threads)

    def run(number: int) -> object:
        start.wait(120)
        return action(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_each_instance_is_leased_exactly_once(storage: Storage, start_worker: StartWorker) -> None:
    ids = [enqueue(storage, priority=number % 3, group=f"group-{number % 4}") for number in range(200)]
    workers = [start_worker() for _ in range(THREADS)]
    taken: list[str] = []

    def work(number: int) -> None:
        leases: list[Lease] = []
        while True:
            ends = [End(lease.id, lease.token, State.DONE) for lease in leases]
            step = workers[number].step(*ends, want=5)
            assert step.lost == []
            leases = step.leases
            taken.extend(lease.id for lease in leases)
            if not leases:
                return

    # A worker may see nothing while others hold what they are about to take; one more round takes the rest.
    at_once(work)
    work(0)
    assert Counter(taken) == Counter(ids)
    assert {key: number for key, number in storage.depths().counts.items() if number} == {("test.job", State.DONE): 200}


def test_enqueue_and_lease_at_once_lose_nothing(storage: Storage, peer: Storage, start_worker: StartWorker) -> None:
    workers = {number: start_worker() for number in range(4)}
    stored: list[str] = []
    taken: list[str] = []

    def act(number: int) -> None:
        if number >= 4:
            stored.extend(enqueue(peer) for _ in range(25))
            return
        for _ in range(200):
            step = workers[number].step(want=3)
            taken.extend(lease.id for lease in step.leases)
            if len(taken) >= 100:
                return
            storage.wait(0.05)

    at_once(act)
    assert Counter(taken) == Counter(stored)
    assert len(stored) == 100


def test_a_limit_holds_against_many_workers(storage: Storage, start_worker: StartWorker) -> None:
    for _ in range(40):
        enqueue(storage, group="narrow", limit=2)
    workers = [start_worker() for _ in range(THREADS)]
    lock, running, most, done = threading.Lock(), 0, 0, 0

    def work(number: int) -> None:
        nonlocal running, most, done
        for _ in range(500):
            leases = workers[number].take(3)
            with lock:
                running += len(leases)
                most = max(most, running)
            for lease in leases:
                with lock:
                    running -= 1
                    done += 1
                workers[number].end(lease, State.DONE)
            if done == 40:
                return
            if not leases:
                storage.wait(0.02)

    at_once(work)
    assert (most <= 2, done) == (True, 40)


def test_one_id_is_stored_once(storage: Storage, worker: Worker) -> None:
    new = new_instance()
    answers = at_once(lambda number: storage.enqueue(new, timeout=10).fresh)
    assert Counter(answers) == {True: 1, False: THREADS - 1}
    assert worker.take_ids() == [new.id]


@pytest.mark.parametrize("on_conflict", ["replace", "keep"])
def test_one_key_waits_once(storage: Storage, worker: Worker, on_conflict: str) -> None:
    at_once(lambda number: store(storage, key="key", on_conflict=on_conflict))
    assert len(worker.take()) == 1


def test_one_due_time_is_taken_once(storage: Storage, worker: Worker) -> None:
    answers = at_once(lambda number: storage.enqueue_periodic(new_instance(), due=1_700_000_000_000))
    assert Counter(answers) == {True: 1, False: THREADS - 1}
    assert len(worker.take()) == 1


def test_one_decision_wins(storage: Storage) -> None:
    answers = at_once(
        lambda number: storage.set_group("group", version=0, limit=number, blocked_until=None, policy=str(number))
    )
    assert Counter(answers) == {True: 1, False: THREADS - 1}
    record = storage.group("group")
    assert record is not None
    assert record.limit == answers.index(True) == int(record.policy)


def test_events_are_counted_exactly(storage: Storage) -> None:
    answers = at_once(lambda number: [storage.count("key", limit=10, per=LONG) for _ in range(4)])
    counted = [answer for some in answers if isinstance(some, list) for answer in some if answer is None]
    assert len(counted) == 10


def test_a_dead_workers_instances_are_recovered_once(storage: Storage, start_worker: StartWorker) -> None:
    ids = [enqueue(storage) for _ in range(10)]
    victim, others = start_worker(), [start_worker() for _ in range(4)]
    assert len(victim.take()) == 10
    victim.fall_silent()
    answers = at_once(lambda number: [one.id for one in others[number].beat().ended], threads=4)
    recovered = [one for some in answers if isinstance(some, list) for one in some]
    assert Counter(recovered) == Counter(ids)
    assert {storage.get(one).crashes for one in ids} == {1}


# -- processes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(kind: str, storage: Storage) -> Storage:
    """A storage that other processes reach."""
    if kind == "memory":
        pytest.skip("memory belongs to one process")
    return storage


def in_child(action: Callable[[], object]) -> None:
    """Run it in a forked process."""
    child = FORKED.Process(target=action)
    child.start()
    ended(child)


def ended(child: BaseProcess) -> None:
    """Wait for a child that must have gone well."""
    child.join(120)
    if child.is_alive():
        child.kill()
        child.join()
        pytest.fail("the child process hangs")
    assert child.exitcode == 0


def test_a_storage_works_in_a_child_after_a_fork(shared: Storage, start_worker: StartWorker) -> None:
    worker = start_worker()
    mine, childs = new_instance(), new_instance()
    shared.enqueue(mine, timeout=5)

    in_child(lambda: shared.enqueue(childs, timeout=5))

    assert worker.take_ids() == [mine.id, childs.id]
    after = enqueue(shared)
    assert worker.take_ids() == [after]


def test_a_storage_that_was_waited_on_works_in_a_child(shared: Storage, start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.take()
    shared.wait(0.05)

    def act() -> None:
        child = start_worker()
        instance = enqueue(shared)
        assert child.take_ids() == [instance]
        shared.wait(0.05)
        child.storage.close_session(child.session)

    in_child(act)
    assert len(worker.take()) == 1


def test_an_enqueue_in_another_process_wakes_a_waiting_worker(shared: Storage, start_worker: StartWorker) -> None:
    from .test_waiting import Waiter

    # Forked before a thread works with a database's library, whose locks a child would inherit for ever.
    go = FORKED.Event()
    child = FORKED.Process(target=lambda: go.wait(60) and enqueue(shared))
    child.start()
    waiter = Waiter(start_worker())
    waiter.start()
    assert waiter.waiting.wait(120)
    go.set()
    ended(child)
    waiter.join(120)
    assert waiter.lease is not None


def test_a_storage_works_again_after_it_was_closed(storage: Storage, worker: Worker) -> None:
    first = enqueue(storage)
    storage.close()
    second = enqueue(storage)
    assert worker.take_ids() == [first, second]
