"""What people see and do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pijobs.errors import InstanceNotFound, StateConflict
from pijobs.jobs import State
from pijobs.storage.contract import Storage

from .conftest import Advance, StartWorker
from .time_travel import SLACK
from .workers import LONG, Worker, enqueue

NOT_WAITING = [State.RUNNING, State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED]
NOT_ENDED = [State.QUEUED, State.SCHEDULED, State.RUNNING]


def bring_to(storage: Storage, worker: Worker, state: State) -> str:
    """An instance in this state."""
    instance = enqueue(storage, due=storage.now() + LONG if state is State.SCHEDULED else None)
    if state is State.CANCELLED:
        storage.cancel(instance, reason="by admin")
    elif state is State.RUNNING:
        worker.take_one()
    elif state not in (State.QUEUED, State.SCHEDULED):
        worker.run(instance, state)
    assert storage.get(instance).state is state
    return instance


# -- one instance ----------------------------------------------------------------------------------------------------


def test_the_body_can_be_read_while_it_is_there(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage, body=b"\x00secret\xff")
    assert storage.body(instance) == b"\x00secret\xff"
    worker.run(instance, State.DONE)
    assert storage.body(instance) is None


@pytest.mark.parametrize("state", [State.DONE, State.DEAD, State.EXPIRED])
def test_the_label_outlives_the_body(storage: Storage, worker: Worker, state: State) -> None:
    about, silent = enqueue(storage, label="mail to ä***@example.com"), enqueue(storage)
    for lease in worker.take():
        worker.end(lease, state)
    assert (storage.get(about).label, storage.get(silent).label) == ("mail to ä***@example.com", None)
    listed = {record.id: record.label for record in storage.page(state).records}
    assert listed == {about: "mail to ä***@example.com", silent: None}


def test_an_unknown_instance_is_not_found(storage: Storage) -> None:
    with pytest.raises(InstanceNotFound):
        storage.get("nothing")
    with pytest.raises(InstanceNotFound):
        storage.cancel("nothing", reason="by admin")
    with pytest.raises(InstanceNotFound):
        storage.retry("nothing")
    with pytest.raises(InstanceNotFound):
        storage.remove("nothing")


# -- cancel, retry, remove -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.QUEUED, State.SCHEDULED])
def test_what_waits_can_be_cancelled(storage: Storage, worker: Worker, state: State) -> None:
    instance = bring_to(storage, worker, state)
    storage.cancel(instance, reason="by admin")
    record = storage.get(instance)
    assert (record.state, record.reason, record.has_body) == (State.CANCELLED, "by admin", False)
    assert record.ended is not None
    step = worker.step(want=1)
    assert (step.leases, step.next_due) == ([], None)


@pytest.mark.parametrize("state", NOT_WAITING)
def test_what_does_not_wait_can_not_be_cancelled(storage: Storage, worker: Worker, state: State) -> None:
    instance = bring_to(storage, worker, state)
    before = storage.get(instance)
    with pytest.raises(StateConflict):
        storage.cancel(instance, reason="again")
    assert storage.get(instance) == before


def test_a_dead_letter_whose_group_was_forgotten_has_it_again(storage: Storage, worker: Worker) -> None:
    instance = bring_to(storage, worker, State.DEAD)
    worker.keep_house()
    assert storage.groups() == []
    storage.retry(instance)
    assert [(group.waiting, group.running) for group in storage.groups()] == [(1, 0)]
    worker.take_one()
    assert [(group.waiting, group.running) for group in storage.groups()] == [(0, 1)]


def test_a_dead_letter_can_be_retried(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage, body=b"kept")
    worker.beat(abandoned=[worker.take_one()])
    worker.run(instance, State.DEAD, entry="{}")
    storage.retry(instance)
    record = storage.get(instance)
    assert (record.state, record.attempts, record.crashes) == (State.QUEUED, 0, 0)
    assert len(record.history) == 2
    lease = worker.take_one()
    assert (lease.id, lease.attempts, lease.crashes, lease.body) == (instance, 0, 0, b"kept")


def test_a_retried_instance_takes_its_old_place(storage: Storage, worker: Worker) -> None:
    first, second = enqueue(storage), enqueue(storage)
    worker.end(worker.take_one(), State.DEAD)
    third = enqueue(storage)
    storage.retry(first)
    assert worker.take_ids() == [first, second, third]


def test_a_retried_instance_can_end_again(storage: Storage, worker: Worker) -> None:
    instance = bring_to(storage, worker, State.DEAD)
    storage.retry(instance)
    worker.run(instance, State.DONE)
    assert storage.get(instance).state is State.DONE
    assert storage.page(State.DEAD).records == []
    assert [record.id for record in storage.page(State.DONE).records] == [instance]


@pytest.mark.parametrize("state", [state for state in State if state is not State.DEAD])
def test_what_is_not_dead_can_not_be_retried(storage: Storage, worker: Worker, state: State) -> None:
    instance = bring_to(storage, worker, state)
    before = storage.get(instance)
    with pytest.raises(StateConflict):
        storage.retry(instance)
    assert storage.get(instance) == before


@pytest.mark.parametrize("state", [State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED])
def test_what_has_ended_can_be_removed(storage: Storage, worker: Worker, state: State) -> None:
    instance = bring_to(storage, worker, state)
    storage.remove(instance)
    with pytest.raises(InstanceNotFound):
        storage.get(instance)
    assert storage.page(state).records == []
    assert storage.depths().counts.get(("test.job", state), 0) == 0


@pytest.mark.parametrize("state", NOT_ENDED)
def test_what_has_not_ended_can_not_be_removed(storage: Storage, worker: Worker, state: State) -> None:
    instance = bring_to(storage, worker, state)
    with pytest.raises(StateConflict):
        storage.remove(instance)
    assert storage.get(instance).state is state


# -- numbers ---------------------------------------------------------------------------------------------------------


def counted(storage: Storage) -> dict[tuple[str, State], int]:
    return {key: number for key, number in storage.depths().counts.items() if number}


def test_an_empty_queue_has_no_depths(storage: Storage) -> None:
    depths = storage.depths()
    assert counted(storage) == {}
    assert (dict(depths.oldest_due), depths.paused, depths.worker_seen) == ({}, False, None)


def test_depths_count_by_job_and_state(storage: Storage, worker: Worker) -> None:
    for state in (State.DONE, State.DEAD, State.EXPIRED, State.RUNNING, State.CANCELLED, State.SCHEDULED):
        bring_to(storage, worker, state)
    for _ in range(3):
        enqueue(storage)
    enqueue(storage, name="other.job")
    expected = {("test.job", state): 1 for state in State} | {("test.job", State.QUEUED): 3}
    assert counted(storage) == {**expected, ("other.job", State.QUEUED): 1}


def test_depths_follow_an_instance_through_its_life(storage: Storage, worker: Worker) -> None:
    def now_counted() -> set[State]:
        counts = counted(storage)
        assert set(counts.values()) == {1}
        return {state for _, state in counts}

    instance = enqueue(storage)
    seen = [now_counted()]
    lease = worker.take_one()
    seen.append(now_counted())
    worker.end(lease, State.SCHEDULED, due=storage.now() - 1000)
    lease = worker.take_one()
    seen.append(now_counted())
    worker.beat(abandoned=[lease])
    seen.append(now_counted())
    worker.run(instance, State.DEAD)
    seen.append(now_counted())
    storage.retry(instance)
    seen.append(now_counted())
    storage.cancel(instance, reason="by admin")
    seen.append(now_counted())
    storage.remove(instance)
    assert [next(iter(one)) for one in seen] == [
        State.QUEUED,
        State.RUNNING,
        State.RUNNING,
        State.QUEUED,
        State.DEAD,
        State.QUEUED,
        State.CANCELLED,
    ]
    assert counted(storage) == {}


def test_the_oldest_due_time_of_each_job(storage: Storage, worker: Worker, advance: Advance) -> None:
    first = enqueue(storage, name="job.one")
    advance(5)
    enqueue(storage, name="job.one", priority=5)
    other = enqueue(storage, name="job.two")
    enqueue(storage, name="job.three", due=storage.now() + LONG)
    # Redis keeps it as a place in microseconds, which differ by one in a batch.
    assert dict(storage.depths().oldest_due) == {
        "job.one": pytest.approx(storage.get(first).due, abs=1),
        "job.two": pytest.approx(storage.get(other).due, abs=1),
    }


def test_the_oldest_due_time_of_all_groups_but_some(storage: Storage, worker: Worker, advance: Advance) -> None:
    assert storage.oldest_due(without=()) is None
    first = enqueue(storage, name="job.one", group="paused")
    advance(5)
    second = enqueue(storage, name="job.one", group="free")
    advance(5)
    third = enqueue(storage, name="job.two", group="other")
    enqueue(storage, name="job.two", group="later", due=storage.now() + LONG)
    for without, oldest in (((), first), (("paused",), second), (("paused", "free"), third)):
        assert storage.oldest_due(without=without) == storage.get(oldest).due
    assert storage.oldest_due(without=("paused", "free", "other")) is None


def test_the_oldest_due_time_goes_with_its_instance(storage: Storage, worker: Worker, advance: Advance) -> None:
    enqueue(storage)
    advance(5)
    second = enqueue(storage)
    worker.take_one()
    assert dict(storage.depths().oldest_due) == {"test.job": storage.get(second).due}
    worker.take_one()
    assert dict(storage.depths().oldest_due) == {}


def test_room_is_made_by_the_newest_of_the_least_urgent(storage: Storage, worker: Worker) -> None:
    def add(priority: int, **fields: object) -> str:
        return enqueue(storage, priority=priority, **fields)

    running = add(-20)
    worker.take_one()
    add(5)
    older, newer, later = add(-10), add(-10, group="other"), add(-10, due=storage.now() + LONG)
    middle, other = add(-5), add(-99, name="other.job")
    assert storage.make_room("test.job", priority=-10, reason="too many") is None
    given_up = [storage.make_room("test.job", priority=0, reason="too many") for _ in range(5)]
    assert given_up == [later, newer, older, middle, None]
    record = storage.get(newer)
    assert (record.state, record.reason, record.has_body) == (State.CANCELLED, "too many", False)
    assert storage.get(running).state is State.RUNNING and storage.get(other).state is State.QUEUED
    assert storage.depths().counts[("test.job", State.CANCELLED)] == 4


def test_depths_tell_a_pause(storage: Storage) -> None:
    storage.pause()
    assert storage.depths().paused
    storage.resume()
    assert not storage.depths().paused


def test_a_pause_of_a_group_is_not_one_of_the_queue(storage: Storage) -> None:
    storage.pause("smtp.example")
    assert not storage.depths().paused


def test_depths_tell_the_last_sign_of_life_of_any_worker(
    storage: Storage, start_worker: StartWorker, advance: Advance
) -> None:
    before = storage.now()
    worker = start_worker()
    first = storage.depths().worker_seen
    advance(20)
    worker.beat()
    second = storage.depths().worker_seen
    storage.close_session(worker.session)
    assert first is not None and second is not None
    assert before - SLACK <= first < second <= storage.now() + 5_000
    assert storage.depths().worker_seen == second


# -- sessions --------------------------------------------------------------------------------------------------------


def test_a_session_is_listed_with_what_it_told(storage: Storage, start_worker: StartWorker) -> None:
    worker = start_worker(
        host="wörker.example", pid=7, version="1.2.3", worker_type="process", workers=4, keys=("k1", "k2"),
        jobs=("mail.send", "sms.send"),
    )  # fmt: skip
    (record,) = storage.sessions()
    assert record.info == worker.info
    assert record.running == ()
    assert abs(record.until - record.seen - LONG) <= 5


def test_a_session_may_tell_something_new(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    start_worker()
    told = replace(worker.info, definitions="abc", workers=7)
    lease = (enqueue(storage), worker.take_one())[1]
    storage.update_session(told)
    (record,) = [record for record in storage.sessions() if record.info.id == worker.session]
    assert (record.info, record.running) == (told, (lease.id,))
    worker.end(lease, State.DONE)


def test_a_session_that_is_gone_does_not_come_back_by_telling_something(storage: Storage, worker: Worker) -> None:
    storage.close_session(worker.session)
    storage.update_session(worker.info)
    assert storage.sessions() == []


def test_a_session_is_listed_with_what_it_runs(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    ids = [enqueue(storage) for _ in range(2)]
    start_worker()
    leases = worker.take()
    running = {record.info.id: set(record.running) for record in storage.sessions()}
    assert running.pop(worker.session) == set(ids)
    assert list(running.values()) == [set()]
    worker.end(leases[0], State.DONE)
    assert [set(record.running) for record in storage.sessions() if record.running] == [{ids[1]}]


def test_sessions_are_listed_oldest_first(storage: Storage, start_worker: StartWorker, advance: Advance) -> None:
    started = []
    for _ in range(3):
        started.append(start_worker().session)
        advance(2)
    assert [record.info.id for record in storage.sessions()] == started


def test_a_beat_shows_in_the_list(storage: Storage, worker: Worker, advance: Advance) -> None:
    (before,) = storage.sessions()
    advance(20)
    worker.beat(lease=LONG)
    (after,) = storage.sessions()
    assert after.seen > before.seen
    assert after.until > before.until


def test_a_session_past_its_lease_is_not_listed(storage: Storage, worker: Worker) -> None:
    worker.fall_silent()
    assert storage.sessions() == []
