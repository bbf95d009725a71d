"""An outage of the storage, and a clock that jumps, are no death; and a storage that forgot something says so."""

from __future__ import annotations

import pytest

from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import End

from .conftest import Advance, StartWorker
from .time_travel import SLACK, TimeMachine
from .workers import LONG, Worker, enqueue

#: Milliseconds; the gap that is taken for an outage is half of it.
LEASE = 60_000
AWAY = LEASE + 100


@pytest.fixture
def crew(start_worker: StartWorker) -> list[Worker]:
    return [start_worker() for _ in range(3)]


def hold(storage: Storage, crew: list[Worker]) -> list[str]:
    """Give each worker something to run."""
    ids = [enqueue(storage) for _ in crew]
    for worker in crew:
        worker.take_one()
    for worker in crew:
        worker.beat(lease=LEASE)
    return ids


def test_an_outage_is_taken_for_nobodys_death(storage: Storage, crew: list[Worker], advance: Advance) -> None:
    ids = hold(storage, crew)
    for _ in range(2):
        advance(AWAY)
        for worker in crew:
            beat = worker.beat(lease=LEASE)
            assert (beat.alive, beat.ended) == (True, [])
    assert [(storage.get(one).state, storage.get(one).crashes) for one in ids] == [(State.RUNNING, 0)] * 3


def test_an_outage_that_no_lease_outlived_is_seen_although_it_was_shorter_than_one(
    storage: Storage, crew: list[Worker], advance: Advance
) -> None:
    ids, lease = hold(storage, crew), 2 * LEASE
    for worker in crew:
        worker.beat(lease=lease)
    first, second, _ = crew
    advance(lease // 5)
    second.beat(lease=lease)
    advance(lease * 9 // 10)
    assert second.beat(lease=lease).ended == []
    assert first.beat(lease=lease).alive
    assert {storage.get(one).state for one in ids} == {State.RUNNING}


def test_a_new_worker_that_comes_first_takes_nobody_for_dead(
    storage: Storage, crew: list[Worker], start_worker: StartWorker, advance: Advance
) -> None:
    hold(storage, crew)
    advance(AWAY)
    new = start_worker(lease=LEASE)
    assert new.beat(lease=LEASE).ended == []
    assert all(worker.beat(lease=LEASE).alive for worker in crew)


def test_an_enqueue_that_comes_first_is_no_sign_that_the_storage_was_there(
    storage: Storage, crew: list[Worker], advance: Advance
) -> None:
    hold(storage, crew)
    enqueue(storage)  # the last before the outage
    advance(AWAY)
    enqueue(storage)
    assert all(worker.beat(lease=LEASE) for worker in crew)
    assert all(worker.beat(lease=LEASE).alive for worker in crew)


def test_who_does_not_come_back_after_an_outage_is_dead_one_lease_later(
    storage: Storage, crew: list[Worker], advance: Advance
) -> None:
    ids = hold(storage, crew)
    dead, alive, _ = crew
    advance(AWAY)
    for _ in range(200):
        alive.beat(lease=LEASE)
        if storage.get(ids[0]).crashes:
            break
        advance(LEASE // 8)
    assert storage.get(ids[0]).crashes == 1
    assert not dead.beat(lease=LEASE).alive


def test_enqueues_show_that_it_was_not_the_storage_that_was_away(
    storage: Storage, crew: list[Worker], start_worker: StartWorker, advance: Advance
) -> None:
    ids = hold(storage, crew)
    for _ in range(32):  # a busy machine must not make a gap of its own
        advance(AWAY // 32)
        enqueue(storage)
    new = start_worker(lease=LEASE)
    assert {one.id for one in new.beat(lease=LEASE).ended} == set(ids)


def test_enqueues_right_after_an_outage_take_nothing_from_the_lease_that_follows_it(
    storage: Storage, crew: list[Worker], advance: Advance
) -> None:
    hold(storage, crew)
    lease = 2 * LEASE
    for worker in crew:
        worker.beat(lease=lease)
    advance(lease)
    for _ in range(2):
        enqueue(storage)
        advance(lease * 3 // 10)
    for worker in crew:
        beat = worker.beat(lease=lease)
        assert (beat.alive, beat.ended) == (True, [])


def test_what_becomes_due_in_an_outage_is_no_sign_that_the_storage_was_there(
    storage: Storage, crew: list[Worker], advance: Advance
) -> None:
    for number in range(1, 9):
        enqueue(storage, due=storage.now() + number * AWAY // 8)
    hold(storage, crew)
    advance(AWAY)
    crew[0].take(1)  # the first to come, which promotes
    assert all(worker.beat(lease=LEASE).alive for worker in crew)


# -- what the storage has under a session ----------------------------------------------------------------------------


def test_a_sign_of_life_is_answered_with_what_the_session_holds(storage: Storage, start_worker: StartWorker) -> None:
    worker, other = start_worker(), start_worker()
    for _ in range(3):
        enqueue(storage)
    leases = worker.take(2)
    other.take(1)
    assert sorted(worker.beat().held) == sorted((lease.id, lease.token) for lease in leases)
    worker.end(leases[0], State.DONE)
    assert worker.beat().held == [(leases[1].id, leases[1].token)]
    assert storage.beat("nobody", lease=LONG).held == []


def test_what_the_process_does_not_run_goes_back_uncounted(storage: Storage, worker: Worker) -> None:
    instance, other = enqueue(storage), enqueue(storage)
    lost, kept = worker.take(2)
    beat = worker.beat(unknown=[(lost.id, lost.token)])
    assert (beat.ended, beat.held) == ([], [(other, kept.token)])
    record = storage.get(instance)
    assert (record.state, record.attempts, record.crashes) == (State.QUEUED, 0, 0)
    assert worker.step(End(lost.id, lost.token, State.DONE)).lost == [instance]
    assert worker.take_ids() == [instance]


def test_only_the_own_leases_can_be_unknown(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    instance, other = enqueue(storage), start_worker()
    old = worker.take_one()
    worker.end(old, State.QUEUED, counted=False)
    held = worker.take_one()
    worker.beat(unknown=[(old.id, old.token), ("nothing", "t")])
    other.beat(unknown=[(held.id, held.token)])
    assert storage.get(instance).state is State.RUNNING


# -- a storage that forgot -------------------------------------------------------------------------------------------


def test_a_sign_of_life_tells_of_the_one_before(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    first = worker.beat()
    other = start_worker().beat()
    second = worker.beat()
    assert second.before == first.now
    assert first.now <= other.now <= second.now
    assert first.epoch == other.epoch == second.epoch != 0
    assert storage.beat("nobody", lease=LONG).before == second.now


def test_a_loss_is_noted(storage: Storage) -> None:
    assert storage.depths().loss is None
    before = storage.now() - 50
    storage.note_loss("emptied")
    storage.note_loss("restored")
    storage.note_loss("emptied")
    loss = storage.depths().loss
    assert loss is not None and loss.kind == "emptied" and loss.at >= before - SLACK


# -- a clock that is set ---------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_keeps_no_dead_workers_lease(
    storage: Storage, crew: list[Worker], time_machine: TimeMachine
) -> None:
    ids = hold(storage, crew)
    time_machine.set_back(600_000)
    ended = []
    for _ in range(200):
        ended += crew[1].beat(lease=LEASE).ended
        if ids[0] in [one.id for one in ended]:
            break
        time_machine.advance(LEASE // 8)
    assert (ids[0], State.QUEUED) in [(one.id, one.state) for one in ended]
    assert crew[1].beat(lease=LEASE).alive


def test_a_clock_that_is_set_back_takes_no_live_worker_for_dead(
    storage: Storage, crew: list[Worker], time_machine: TimeMachine
) -> None:
    hold(storage, crew)
    time_machine.set_back(600_000)
    for worker in crew:
        beat = worker.beat(lease=LEASE)
        assert (beat.alive, beat.ended) == (True, [])
