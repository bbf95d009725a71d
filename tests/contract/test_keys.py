"""Of the instances with one key at most one waits, whichever way it came to wait: the newest call."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pijobs.errors import KeyConflict
from pijobs.jobs import WAITING, State
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, Lease

from .conftest import Advance, StartWorker
from .workers import LONG, Worker, enqueue, store

#: Brings a running instance back to where it waits.
WAYS: dict[str, Callable[[Storage, Worker, Lease], object]] = {
    "retried by the job": lambda storage, worker, lease: worker.end(lease, State.SCHEDULED, due=storage.now() + LONG),
    "given back": lambda storage, worker, lease: worker.end(lease, State.QUEUED, counted=False),
    "deferred": lambda storage, worker, lease: worker.end(lease, State.QUEUED, due=storage.now() + LONG),
    "recovered": lambda storage, worker, lease: worker.beat(abandoned=[lease]),
    "given back at the end": lambda storage, worker, lease: storage.close_session(worker.session),
    "recovered at the end": lambda storage, worker, lease: storage.close_session(worker.session, crashed=True),
}


def by_an_admin(storage: Storage, worker: Worker, lease: Lease) -> None:
    worker.end(lease, State.DEAD)
    storage.retry(lease.id)


WAYS["retried by an admin"] = by_an_admin


@pytest.fixture(params=WAYS)
def comes_back(request: pytest.FixtureRequest) -> Callable[[Storage, Worker, Lease], object]:
    return WAYS[request.param]


def states(storage: Storage, *ids: str) -> list[State]:
    return [storage.get(one).state for one in ids]


ComesBack = Callable[[Storage, Worker, Lease], object]


def test_a_newer_instance_supersedes_what_came_back(storage: Storage, worker: Worker, comes_back: ComesBack) -> None:
    old = enqueue(storage, key="user-7", created=1000)
    comes_back(storage, worker, worker.take_one())
    assert storage.get(old).state in WAITING
    stored = store(storage, key="user-7", created=2000)
    assert stored.replaced == old
    record = storage.get(old)
    assert (record.state, record.reason) == (State.CANCELLED, f"superseded by {stored.id}")


def test_what_comes_back_gives_way_to_a_newer_instance(storage: Storage, worker: Worker, comes_back: ComesBack) -> None:
    old = enqueue(storage, key="user-7", created=1000)
    lease = worker.take_one()
    new = enqueue(storage, key="user-7", created=2000)
    comes_back(storage, worker, lease)
    record = storage.get(old)
    assert (record.state, record.reason, record.has_body) == (State.CANCELLED, f"superseded by {new}", False)
    assert storage.get(new).state is State.QUEUED
    (waits,) = [group for group in storage.groups() if group.waiting]
    assert (waits.waiting, waits.running) == (1, 0)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "retried by an admin"])
@pytest.mark.parametrize("became", [State.RUNNING, State.DONE, State.DEAD, State.EXPIRED])
def test_what_comes_back_gives_way_to_a_newer_one_that_ran_meanwhile(
    storage: Storage, worker: Worker, start_worker: StartWorker, way: str, became: State
) -> None:
    old = enqueue(storage, key="user-7", created=1000)
    lease = worker.take_one()
    new = enqueue(storage, key="user-7", created=3000)
    other = start_worker()
    newer = other.take_one()
    if became is not State.RUNNING:
        other.end(newer, became)
    WAYS[way](storage, worker, lease)
    record = storage.get(old)
    assert (record.state, record.reason) == (State.CANCELLED, f"superseded by {new}")
    assert storage.get(new).state is became


def test_what_comes_back_outlives_a_newer_one_that_was_cancelled(storage: Storage, worker: Worker) -> None:
    old = enqueue(storage, key="user-7", created=1000)
    lease = worker.take_one()
    storage.cancel(enqueue(storage, key="user-7", created=3000), reason="by admin")
    worker.end(lease, State.QUEUED, counted=False)
    assert storage.get(old).state is State.QUEUED


def test_an_admin_retries_whatever_a_newer_one_became(storage: Storage, worker: Worker) -> None:
    old = enqueue(storage, key="user-7", created=1000)
    worker.end(worker.take_one(), State.DEAD)
    worker.run(enqueue(storage, key="user-7", created=3000), State.DONE)
    storage.retry(old)
    assert storage.get(old).state is State.QUEUED


def test_a_server_whose_clock_is_slow_loses_no_retry(storage: Storage, worker: Worker) -> None:
    worker.run(enqueue(storage, key="user-7", created=9000), State.DONE)
    later = enqueue(storage, key="user-7", created=1000)
    worker.end(worker.take_one(), State.QUEUED, counted=False)
    assert storage.get(later).state is State.QUEUED


def test_of_a_key_nothing_is_remembered_longer_than_its_record(storage: Storage, worker: Worker) -> None:
    old = enqueue(storage, key="user-7", created=1000)
    lease = worker.take_one()
    new = enqueue(storage, key="user-7", created=3000)
    worker.run(new, State.DONE)
    storage.remove(new)
    worker.end(lease, State.QUEUED, counted=False)
    assert storage.get(old).state is State.QUEUED


def test_what_comes_back_supersedes_an_older_instance(storage: Storage, worker: Worker, comes_back: ComesBack) -> None:
    new = enqueue(storage, key="user-7", created=2000)
    lease = worker.take_one()
    old = enqueue(storage, key="user-7", created=1000)
    comes_back(storage, worker, lease)
    assert storage.get(old).state is State.CANCELLED
    assert storage.get(new).state in WAITING


def test_a_key_that_came_back_is_taken(storage: Storage, worker: Worker, comes_back: ComesBack) -> None:
    old = enqueue(storage, key="user-7")
    comes_back(storage, worker, worker.take_one())
    with pytest.raises(KeyConflict) as conflict:
        store(storage, key="user-7", on_conflict="error")
    assert conflict.value.existing == old
    assert store(storage, key="user-7", on_conflict="keep").id == old


def test_of_calls_at_one_moment_the_later_one_is_newer(storage: Storage, worker: Worker) -> None:
    first = enqueue(storage, key="user-7", created=1000)
    lease = worker.take_one()
    # The storage's clock is estimated, which may go back a little.
    second = enqueue(storage, key="user-7", created=950)
    worker.end(lease, State.SCHEDULED, due=storage.now() + LONG)
    assert states(storage, first, second) == [State.CANCELLED, State.QUEUED]
    assert store(storage, key="user-7", created=900).replaced == second


def test_an_older_call_that_comes_late_is_cancelled(storage: Storage, worker: Worker) -> None:
    """As from a spool."""
    new = enqueue(storage, key="user-7", created=2000)
    stored = store(storage, key="user-7", created=1000)
    assert (stored.state, stored.fresh, stored.replaced) == (State.CANCELLED, True, None)
    record = storage.get(stored.id)
    assert (record.state, record.reason, record.has_body) == (State.CANCELLED, f"superseded by {new}", False)
    assert worker.take_ids() == [new]


def test_a_creation_in_the_future_is_not_believed(storage: Storage, worker: Worker) -> None:
    """The clock was wrong once; that must not silence the key for as long."""
    wrong = enqueue(storage, key="user-7", created=storage.now() + 365 * 86_400_000)
    assert store(storage, key="user-7", created=storage.now()).replaced == wrong


def test_several_that_come_back_at_once_leave_one(storage: Storage, start_worker: StartWorker) -> None:
    worker, ids, leases = start_worker(), [], []
    for number in range(4):
        ids.append(enqueue(storage, key="user-7", created=1000 + number))
        leases += worker.take(1)
    order = [leases[number] for number in (1, 3, 0, 2)]
    step = worker.step(*[End(one.id, one.token, State.SCHEDULED, due=storage.now() + LONG) for one in order])
    assert states(storage, *ids) == [State.CANCELLED, State.CANCELLED, State.CANCELLED, State.SCHEDULED]
    assert {one.id for one in step.ended} == set(ids[:3])
    assert {one.state for one in step.ended} == {State.CANCELLED}
    assert storage.depths().counts == {("test.job", State.CANCELLED): 3, ("test.job", State.SCHEDULED): 1}
    assert storage.page(State.SCHEDULED).records[0].id == ids[3]


def test_what_was_superseded_is_told_by_whoever_brought_it_back(storage: Storage, worker: Worker) -> None:
    old = enqueue(storage, key="user-7", created=1000)
    lease = worker.take_one()
    enqueue(storage, key="user-7", created=2000)
    ended = worker.beat(abandoned=[lease]).ended
    assert [(one.id, one.state, one.crashed) for one in ended] == [(old, State.CANCELLED, False)]


def test_an_ended_instance_leaves_the_key_alone(storage: Storage, worker: Worker) -> None:
    enqueue(storage, key="user-7")
    lease = worker.take_one()
    new = enqueue(storage, key="user-7")
    worker.end(lease, State.DONE)
    assert store(storage, key="user-7", on_conflict="keep").id == new


@pytest.mark.parametrize("on_conflict", ["replace", "keep", "error"])
def test_an_overdue_instance_holds_no_key(storage: Storage, advance: Advance, on_conflict: str) -> None:
    late = enqueue(storage, key="user-7", deadline=storage.now() + 1)
    advance(5)
    stored = store(storage, key="user-7", on_conflict=on_conflict)
    assert (stored.fresh, stored.state, stored.replaced) == (True, State.QUEUED, None)
    assert storage.get(late).state is State.EXPIRED


def test_of_many_that_come_at_once_one_waits(storage: Storage, peer: Storage, start_worker: StartWorker) -> None:
    """New ones, and others that end in the same moment and come to wait again."""
    workers = [start_worker(on=one) for one in (storage, peer)]

    def take_and_return(number: int) -> None:
        for _ in range(12):
            for lease in workers[number].take(2):
                workers[number].step(End(lease.id, lease.token, State.QUEUED, counted=False))

    def enqueue_some(number: int) -> None:
        for _ in range(12):
            enqueue((storage, peer)[number], key="user-7")

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(action, number) for action in (take_and_return, enqueue_some) for number in (0, 1)]
        for job in jobs:
            job.result(60)
    (waits,) = storage.page(State.QUEUED).records
    assert storage.depths().counts == {("test.job", State.QUEUED): 1, ("test.job", State.CANCELLED): 23}
    assert [*workers[0].take_ids()] == [waits.id]
