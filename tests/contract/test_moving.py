"""What leaves for another storage, as from the spool: taken out, held, and forgotten."""

from __future__ import annotations

import pytest

from pijobs.errors import InstanceNotFound
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, NewInstance, Retention

from .conftest import Advance, OpenStorage
from .time_travel import SLACK
from .workers import LONG, Worker, connected, enqueue, new_instance


def taken_ids(storage: Storage, number: int = 100, hold: int = LONG) -> list[str]:
    return [new.id for new in storage.take_out(number, hold=hold)]


def test_an_instance_is_taken_out_as_it_was_enqueued(storage: Storage) -> None:
    now = storage.now()
    new = new_instance(
        name="test.other", group="smtp.example", priority=-3, created=now - 5, deadline=now + LONG, due=now + 2 * LONG,
        key="a key", subject="a subject", limit=7, keep=1234, label="a label", person="a person",
    )  # fmt: skip
    storage.enqueue(new, timeout=5)
    assert storage.take_out(10, hold=LONG) == [new]


def test_what_is_not_set_is_not_there_afterwards(storage: Storage) -> None:
    instance = enqueue(storage)
    (new,) = storage.take_out(10, hold=LONG)
    assert (new.id, new.deadline, new.key, new.subject, new.limit, new.keep) == (instance, None, None, None, None, None)
    assert new.due is not None and new.due <= storage.now() + SLACK


def test_the_oldest_go_first_and_no_more_than_asked_for(storage: Storage) -> None:
    ids = [enqueue(storage, priority=number % 3, name=f"test.job{number % 2}") for number in range(5)]
    assert taken_ids(storage, 3) == ids[:3]
    assert taken_ids(storage, 3) == ids[3:]
    assert taken_ids(storage) == []


def test_more_than_one_look_of_the_storage_can_be_taken_out(storage: Storage) -> None:
    ids = [enqueue(storage) for _ in range(130)]
    assert taken_ids(storage, 120) == ids[:120]
    assert taken_ids(storage, 120) == ids[120:]


def test_what_was_ever_leased_is_not_taken_out(storage: Storage, worker: Worker) -> None:
    for state in (State.QUEUED, State.SCHEDULED, State.DEAD, State.DONE):
        worker.run(enqueue(storage), state, due=storage.now() + LONG if state is State.SCHEDULED else None)
        assert taken_ids(storage) == []
        for back in worker.take():
            worker.end(back, State.DONE)
    enqueue(storage)
    running = worker.take_one()
    assert taken_ids(storage) == []
    worker.end(running, State.DONE)


def test_what_is_held_is_not_leased_but_still_queued(storage: Storage, worker: Worker) -> None:
    held, free = enqueue(storage), enqueue(storage)
    assert taken_ids(storage, 1) == [held]
    assert worker.take_ids() == [free]
    assert storage.get(held).state is State.QUEUED


def test_after_the_hold_a_worker_may_take_it_as_if_nothing_had_been(
    storage: Storage, worker: Worker, advance: Advance
) -> None:
    instance = enqueue(storage)
    later = enqueue(storage, due=storage.now() + LONG)
    taken_ids(storage, hold=60)
    advance(60)
    lease = worker.take_one()
    assert (lease.id, lease.attempts, lease.crashes, lease.held_since) == (instance, 0, 0, None)
    assert storage.get(later).state is State.SCHEDULED
    assert worker.take() == []


def test_after_the_hold_it_may_be_taken_out_again_even_if_no_worker_ever_looked(
    storage: Storage, worker: Worker, advance: Advance
) -> None:
    instance = enqueue(storage)
    taken_ids(storage, hold=60)
    advance(60)
    assert taken_ids(storage) == [instance]
    assert worker.take() == []


def test_a_scheduled_one_keeps_its_time(storage: Storage) -> None:
    due = storage.now() + LONG
    instance = enqueue(storage, due=due)
    taken_ids(storage, hold=10)
    assert storage.get(instance).due == due


def test_what_was_stored_elsewhere_is_forgotten(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage, key="key"), enqueue(storage, due=storage.now() + LONG, deadline=storage.now() + LONG)]
    taken_ids(storage)
    storage.forget([*ids, "never heard of"])
    for instance in ids:
        with pytest.raises(InstanceNotFound):
            storage.get(instance)
    assert sum(storage.depths().counts.values()) == 0
    assert storage.depths().oldest_due == {}
    assert worker.step(want=5).next_due is None
    again = enqueue(storage, key="key")
    assert worker.take_ids() == [again]


def test_what_a_worker_has_taken_meanwhile_is_not_forgotten(storage: Storage, worker: Worker, advance: Advance) -> None:
    instance = enqueue(storage)
    taken_ids(storage, hold=5)
    advance(5)
    lease = worker.take_one()
    storage.forget([instance])
    worker.end(lease, State.DONE)
    assert storage.get(instance).state is State.DONE


def test_two_do_not_take_out_the_same(storage: Storage, peer: Storage) -> None:
    ids = [enqueue(storage) for _ in range(4)]
    assert [*taken_ids(storage, 2), *taken_ids(peer, 2)] == ids


def test_taking_out_is_no_sign_of_life_of_a_worker(storage: Storage) -> None:
    enqueue(storage)
    storage.forget(taken_ids(storage))
    assert storage.depths().worker_seen is None


# -- what ended without a lease --------------------------------------------------------------------------------------


def ended(new: NewInstance, state: State, **changes: object) -> End:
    return End(new.id, "", state, **{"counted": False, "reason": "the reason", "error": "Error", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [State.DONE, State.DEAD, State.EXPIRED])
def test_the_end_of_an_instance_that_was_never_stored_is_recorded(storage: Storage, state: State) -> None:
    now = storage.now()
    new = new_instance(
        group="smtp.example", priority=-3, created=now - 5, deadline=now + LONG, subject="a subject", keep=LONG,
        person="a person",
    )  # fmt: skip
    assert storage.record_end(new, ended(new, state, counted=True, entry='{"event": "attempt"}'))
    record = storage.get(new.id)
    assert (record.state, record.name, record.group, record.priority) == (state, new.name, new.group, -3)
    assert (record.created, record.deadline, record.attempts) == (new.created, new.deadline, 1)
    assert (record.reason, record.error, record.history) == ("the reason", "Error", ('{"event": "attempt"}',))
    assert record.ended is not None and record.ended >= now - SLACK
    assert record.has_body is (state is State.DEAD)
    assert storage.depths().counts == {(new.name, state): 1}
    pages = [
        storage.page(state, name=new.name),
        storage.page(state, group=new.group),
        storage.page(state, subject="a subject"),
        storage.page(state, subject="a person"),
    ]
    assert [[one.id for one in page.records] for page in pages] == [[new.id]] * 4


def test_a_waiting_instance_ends_without_a_lease(storage: Storage, worker: Worker) -> None:
    waiting = new_instance(key="key", deadline=storage.now() + LONG)
    later = new_instance(due=storage.now() + LONG)
    for new in (waiting, later):
        storage.enqueue(new, timeout=5)
        storage.take_out(10, hold=LONG)
        assert storage.record_end(new, ended(new, State.DEAD))
        assert storage.get(new.id).state is State.DEAD
    assert storage.depths().counts == {("test.job", State.DEAD): 2}
    assert worker.take() == [] and worker.step(want=1).next_due is None
    assert enqueue(storage, key="key") not in (waiting.id, later.id)


def test_a_recorded_dead_letter_can_be_retried(storage: Storage, worker: Worker) -> None:
    new = new_instance(key="key")
    storage.record_end(new, ended(new, State.DEAD))
    storage.retry(new.id)
    assert worker.take_one().body == new.body


def test_a_recorded_end_takes_no_key_from_what_waits(storage: Storage, worker: Worker) -> None:
    waiting = enqueue(storage, key="key")
    new = new_instance(key="key")
    assert storage.record_end(new, ended(new, State.DONE))
    assert storage.get(waiting).state is State.QUEUED
    assert worker.take_ids() == [waiting]


def test_what_runs_or_has_ended_stays_what_it_is(storage: Storage, worker: Worker) -> None:
    new = new_instance()
    storage.enqueue(new, timeout=5)
    lease = worker.take_one()
    assert not storage.record_end(new, ended(new, State.DEAD))
    worker.end(lease, State.DONE)
    assert not storage.record_end(new, ended(new, State.DEAD))
    assert storage.get(new.id).state is State.DONE


def test_a_recorded_end_is_kept_as_long_as_any_other(open_storage: OpenStorage, advance: Advance) -> None:
    storage = connected(open_storage(Retention(finished=20, dead=20)))
    for state in (State.DONE, State.DEAD):
        new = new_instance()
        storage.record_end(new, ended(new, state))
    advance(25)
    storage.beat("nobody", lease=LONG)
    assert storage.depths().counts == {}
