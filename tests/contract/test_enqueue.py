"""What servers store."""

from __future__ import annotations

import time
from typing import Any

import pytest
from services import wait_until

from pijobs.errors import KeyConflict, NoLiveWorker
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import BATCH, NewInstance, OnConflict, Stored

from .conftest import Advance, StartWorker
from .time_travel import SLACK
from .workers import LONG, Worker, enqueue, new_instance, store


def test_a_new_instance_is_queued(storage: Storage) -> None:
    new = new_instance()
    stored = storage.enqueue(new, timeout=5)
    assert (stored.id, stored.state, stored.fresh, stored.replaced) == (new.id, State.QUEUED, True, None)


def test_a_record_shows_what_was_stored(storage: Storage) -> None:
    created, deadline = storage.now() - 5, storage.now() + LONG
    new = new_instance(group="smtp.example", priority=7, created=created, deadline=deadline)
    storage.enqueue(new, timeout=5)
    record = storage.get(new.id)
    assert (record.id, record.name, record.state, record.group) == (new.id, new.name, State.QUEUED, "smtp.example")
    assert (record.priority, record.created, record.deadline) == (7, created, deadline)
    assert (record.attempts, record.crashes, record.history) == (0, 0, ())
    assert (record.started, record.ended, record.reason, record.error, record.session) == (None,) * 5
    assert (record.envelope, record.has_body) == (new.envelope, True)


def test_a_new_instance_is_due_at_once(storage: Storage) -> None:
    before = storage.now()
    due = storage.get(enqueue(storage)).due
    assert before - SLACK <= due <= storage.now() + SLACK


def test_a_due_time_in_the_past_means_at_once(storage: Storage) -> None:
    assert store(storage, due=storage.now() - LONG).state is State.QUEUED


def test_a_due_time_in_the_future_means_scheduled(storage: Storage) -> None:
    due = storage.now() + LONG
    stored = store(storage, due=due)
    assert stored.state is State.SCHEDULED
    assert storage.get(stored.id).state is State.SCHEDULED
    assert storage.get(stored.id).due == due


def test_every_priority_and_text_is_kept(storage: Storage) -> None:
    for priority in (-1000, 0, 1000):
        new = new_instance(priority=priority, group="gruppe/ä €\U0001f4a9 :{}*'\"%s", name="test.job_1")
        storage.enqueue(new, timeout=5)
        assert (storage.get(new.id).priority, storage.get(new.id).group) == (priority, new.group)


def test_a_large_body_is_kept(storage: Storage, worker: Worker) -> None:
    body = bytes(range(256)) * 1200
    enqueue(storage, body=body)
    assert worker.take_one().body == body


# -- idempotent by id ------------------------------------------------------------------------------------------------


def test_a_second_enqueue_of_an_id_changes_nothing(storage: Storage, worker: Worker) -> None:
    new = new_instance()
    storage.enqueue(new, timeout=5)
    again = storage.enqueue(new, timeout=5)
    assert (again.id, again.state, again.fresh) == (new.id, State.QUEUED, False)
    assert worker.take_ids() == [new.id]


def test_a_second_enqueue_tells_the_state_of_a_running_instance(storage: Storage, worker: Worker) -> None:
    new = new_instance()
    storage.enqueue(new, timeout=5)
    lease = worker.take_one()
    assert storage.enqueue(new, timeout=5).state is State.RUNNING
    worker.end(lease, State.DONE)
    assert storage.get(new.id).state is State.DONE


@pytest.mark.parametrize("state", [State.DONE, State.DEAD, State.EXPIRED])
def test_a_second_enqueue_does_not_revive_what_has_ended(storage: Storage, worker: Worker, state: State) -> None:
    new = new_instance()
    storage.enqueue(new, timeout=5)
    worker.run(new.id, state)
    again = storage.enqueue(new, timeout=5)
    assert (again.state, again.fresh) == (state, False)
    assert worker.take() == []


def test_a_second_enqueue_of_an_id_does_not_replace_itself_by_its_key(storage: Storage) -> None:
    new = new_instance(key="key")
    storage.enqueue(new, timeout=5)
    again = storage.enqueue(new, timeout=5, on_conflict="replace")
    assert (again.state, again.fresh, again.replaced) == (State.QUEUED, False, None)
    assert storage.get(new.id).state is State.QUEUED


# -- unique keys -----------------------------------------------------------------------------------------------------


def test_replace_cancels_the_waiting_instance_of_the_key(storage: Storage, worker: Worker) -> None:
    first = enqueue(storage, key="key")
    second = store(storage, key="key", on_conflict="replace")
    assert (second.fresh, second.replaced) == (True, first)
    record = storage.get(first)
    assert (record.state, record.reason, record.has_body) == (State.CANCELLED, f"superseded by {second.id}", False)
    assert worker.take_ids() == [second.id]


def test_replace_is_the_default(storage: Storage) -> None:
    first = enqueue(storage, key="key")
    assert store(storage, key="key").replaced == first


def test_replace_works_again_and_again(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage, key="key") for _ in range(4)]
    assert [storage.get(one).state for one in ids] == [State.CANCELLED] * 3 + [State.QUEUED]
    assert worker.take_ids() == ids[3:]


def test_keep_returns_the_waiting_instance(storage: Storage, worker: Worker) -> None:
    first = enqueue(storage, key="key", due=storage.now() + LONG)
    second = store(storage, key="key", on_conflict="keep")
    assert (second.id, second.state, second.fresh, second.replaced) == (first, State.SCHEDULED, False, None)
    assert worker.take() == []


def test_error_refuses_a_second_instance(storage: Storage) -> None:
    first = enqueue(storage, key="key")
    with pytest.raises(KeyConflict) as caught:
        store(storage, key="key", on_conflict="error")
    assert caught.value.existing == first
    assert sum(storage.depths().counts.values()) == 1


def test_a_scheduled_instance_has_its_key_too(storage: Storage) -> None:
    first = enqueue(storage, key="key", due=storage.now() + LONG)
    assert store(storage, key="key").replaced == first
    assert storage.get(first).state is State.CANCELLED


def test_other_keys_and_no_key_do_not_meet(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage, key=key) for key in ("one", "two", None, None)]
    assert worker.take_ids() == ids


def test_the_key_is_free_when_the_instance_starts(storage: Storage, worker: Worker) -> None:
    first = enqueue(storage, key="key")
    lease = worker.take_one()
    second = store(storage, key="key", on_conflict="error")
    assert (second.fresh, second.replaced) == (True, None)
    worker.end(lease, State.DONE)
    assert [storage.get(one).state for one in (first, second.id)] == [State.DONE, State.QUEUED]


def test_the_key_is_free_when_the_instance_was_cancelled(storage: Storage) -> None:
    storage.cancel(enqueue(storage, key="key"), reason="by admin")
    assert store(storage, key="key", on_conflict="error").fresh


def test_the_key_is_free_when_the_instance_has_expired(storage: Storage, worker: Worker, advance: Advance) -> None:
    enqueue(storage, key="key", deadline=storage.now() + 1)
    advance(5)
    worker.beat()
    assert store(storage, key="key", on_conflict="error").fresh


# -- only with a worker ----------------------------------------------------------------------------------------------


def test_worker_within_refuses_when_no_worker_was_ever_there(storage: Storage) -> None:
    with pytest.raises(NoLiveWorker):
        store(storage, worker_within=LONG)
    assert sum(storage.depths().counts.values()) == 0


def test_worker_within_stores_when_a_worker_gave_a_sign_of_life(storage: Storage, worker: Worker) -> None:
    assert store(storage, worker_within=LONG).fresh


def test_worker_within_refuses_when_the_sign_of_life_is_old(storage: Storage, worker: Worker, advance: Advance) -> None:
    advance(60)
    with pytest.raises(NoLiveWorker):
        store(storage, worker_within=50)


def test_a_beat_is_a_sign_of_life(storage: Storage, start_worker: StartWorker, advance: Advance) -> None:
    worker = start_worker()
    advance(400)
    with pytest.raises(NoLiveWorker):
        store(storage, worker_within=300)

    def stored() -> bool:
        worker.beat()
        try:
            return store(storage, worker_within=300).fresh
        except NoLiveWorker:  # a busy machine took longer than that between the two
            return False

    wait_until(stored, what="an enqueue right behind a sign of life")


def test_worker_within_refuses_without_touching_the_waiting_instance_of_the_key(storage: Storage) -> None:
    first = enqueue(storage, key="key")
    with pytest.raises(NoLiveWorker):
        store(storage, key="key", worker_within=LONG)
    assert storage.get(first).state is State.QUEUED


# -- many at once ----------------------------------------------------------------------------------------------------


def store_many(
    storage: Storage, *batch: NewInstance, on_conflict: OnConflict = "replace", **options: Any
) -> list[Stored]:
    return storage.enqueue_many([(new, on_conflict) for new in batch], timeout=5, **options)


def test_a_batch_is_stored_in_its_order(storage: Storage, worker: Worker) -> None:
    batch = [new_instance(group=f"group {number % 7}") for number in range(BATCH)]
    stored = store_many(storage, *batch)
    assert [(one.id, one.state, one.fresh) for one in stored] == [(new.id, State.QUEUED, True) for new in batch]
    assert worker.take_ids(want=BATCH) == [new.id for new in batch]


def test_a_page_shows_a_batch_newest_first(storage: Storage) -> None:
    batch = [new_instance() for _ in range(10)]
    store_many(storage, *batch)
    assert [record.id for record in storage.page(State.QUEUED).records] == [new.id for new in reversed(batch)]


def test_each_of_a_batch_keeps_what_is_its_own(storage: Storage, worker: Worker) -> None:
    later = storage.now() + LONG
    batch = [new_instance(due=later, subject="him"), new_instance(priority=5, body=b"x"), new_instance(label="to b***")]
    assert [one.state for one in store_many(storage, *batch)] == [State.SCHEDULED, State.QUEUED, State.QUEUED]
    assert [record.id for record in storage.page(State.SCHEDULED, subject="him").records] == [batch[0].id]
    assert storage.get(batch[2].id).label == "to b***"
    assert [(lease.id, lease.body) for lease in worker.take(want=3)] == [
        (batch[1].id, b"x"), (batch[2].id, batch[2].body),
    ]  # fmt: skip


def test_a_batch_wakes_a_worker_of_its_highest_priority(storage: Storage, start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.take(floor=5)
    store_many(storage, new_instance(), new_instance(priority=7), new_instance())
    began = time.monotonic()
    storage.wait(20, floor=5)
    assert time.monotonic() - began < 10
    assert len(worker.take(want=3, floor=5)) == 1


def test_a_batch_that_is_enqueued_again_changes_nothing(storage: Storage, worker: Worker) -> None:
    batch = [new_instance(key="key"), *(new_instance() for _ in range(3))]
    store_many(storage, *batch[:2])
    worker.end(worker.take_one(), State.DONE)
    again = store_many(storage, *batch)
    assert [(one.state, one.fresh) for one in again] == [
        (State.DONE, False), (State.QUEUED, False), (State.QUEUED, True), (State.QUEUED, True),
    ]  # fmt: skip
    assert worker.take_ids(want=9) == [new.id for new in batch[1:]]


def test_of_a_batch_the_last_with_a_key_waits(storage: Storage, worker: Worker) -> None:
    before = enqueue(storage, key="a")
    batch = [new_instance(key=key) for key in ("a", "b", "a", None)]
    stored = store_many(storage, *batch)
    assert [one.replaced for one in stored] == [before, None, batch[0].id, None]
    assert storage.get(batch[0].id).state is State.CANCELLED
    assert worker.take_ids(want=9) == [batch[1].id, batch[2].id, batch[3].id]


def test_of_a_batch_that_keeps_the_first_with_a_key_waits(storage: Storage, worker: Worker) -> None:
    before = enqueue(storage, key="a")
    batch = [new_instance(key=key) for key in ("a", "b", "b")]
    stored = store_many(storage, *batch, on_conflict="keep")
    assert [one.id for one in stored] == [before, batch[1].id, batch[1].id]
    assert worker.take_ids(want=9) == [before, batch[1].id]


@pytest.mark.parametrize("keys", [("free", "taken"), ("taken", "free"), ("free", "free")])
def test_a_conflict_refuses_the_whole_batch(storage: Storage, keys: tuple[str, str]) -> None:
    first = enqueue(storage, key="taken")
    batch = [new_instance(), *(new_instance(key=key) for key in keys)]
    with pytest.raises(KeyConflict) as caught:
        store_many(storage, *batch, on_conflict="error")
    assert caught.value.existing == (first if "taken" in keys else batch[1].id)
    assert sum(storage.depths().counts.values()) == 1


def test_a_batch_without_a_worker_is_refused_but_for_what_is_stored_already(storage: Storage) -> None:
    batch = [new_instance(), new_instance()]
    store_many(storage, batch[0])
    assert store_many(storage, batch[0], worker_within=LONG)[0].state is State.QUEUED
    with pytest.raises(NoLiveWorker):
        store_many(storage, *batch, worker_within=LONG)
    assert sum(storage.depths().counts.values()) == 1


def test_a_batch_for_groups_that_are_paused_waits_with_them(storage: Storage, worker: Worker) -> None:
    storage.pause("slow")
    batch = [new_instance(group=group) for group in ("slow", "quick", "slow")]
    store_many(storage, *batch)
    assert worker.take_ids(want=9) == [batch[1].id]
    storage.resume("slow")
    assert worker.take_ids(want=9) == [batch[0].id, batch[2].id]
