"""Each arrow out of ``running``."""

from __future__ import annotations

import json

import pytest

from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import MAX_HISTORY, End

from .conftest import StartWorker
from .workers import LONG, Worker, enqueue


def test_done(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    worker.run(instance, State.DONE, entry='{"n": 1}')
    record = storage.get(instance)
    assert (record.state, record.attempts, record.reason, record.error) == (State.DONE, 1, None, None)
    assert record.history == ('{"n": 1}',)
    assert record.started is not None and record.ended is not None
    assert record.started <= record.ended


@pytest.mark.parametrize("state", [State.DONE, State.EXPIRED])
def test_the_body_goes_when_the_instance_ends(storage: Storage, worker: Worker, state: State) -> None:
    instance = enqueue(storage)
    worker.run(instance, state)
    assert storage.body(instance) is None
    assert not storage.get(instance).has_body


def test_a_dead_letter_keeps_its_body(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage, body=b"the body")
    worker.run(instance, State.DEAD, reason="permanent failure", error="ValueError")
    record = storage.get(instance)
    assert (record.state, record.reason, record.error) == (State.DEAD, "permanent failure", "ValueError")
    assert (record.has_body, storage.body(instance)) == (True, b"the body")


def test_expired(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    worker.run(instance, State.EXPIRED, counted=False, reason="too late")
    record = storage.get(instance)
    assert (record.state, record.attempts, record.reason) == (State.EXPIRED, 0, "too late")


@pytest.mark.parametrize("state", [State.DONE, State.DEAD, State.EXPIRED])
def test_what_has_ended_is_not_leased_again(storage: Storage, worker: Worker, state: State) -> None:
    worker.run(enqueue(storage), state)
    assert worker.take() == []


def test_another_attempt(storage: Storage, worker: Worker) -> None:
    instance, due = enqueue(storage), storage.now() + LONG
    worker.run(instance, State.SCHEDULED, due=due, reason="450 try later", error="SmtpError", entry="{}")
    record = storage.get(instance)
    assert (record.state, record.due, record.attempts) == (State.SCHEDULED, due, 1)
    assert (record.reason, record.error, record.history) == ("450 try later", "SmtpError", ("{}",))
    assert record.has_body
    assert worker.take() == []


def test_attempts_are_counted_when_they_count(storage: Storage, worker: Worker) -> None:
    enqueue(storage)
    seen = []
    for counted in (True, False, True):
        lease = worker.take_one()
        seen.append(lease.attempts)
        worker.end(lease, State.SCHEDULED, counted=counted, due=storage.now() - 1000)
    assert [*seen, worker.take_one().attempts] == [0, 1, 1, 2]


def test_a_next_attempt_with_another_body(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage, body=b"first")
    worker.run(instance, State.SCHEDULED, due=storage.now() - 1000, body=b"second")
    assert storage.body(instance) == b"second"
    assert worker.take_one().body == b"second"


def test_given_back_at_once(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    worker.run(instance, State.QUEUED, counted=False, reason="shutdown")
    record = storage.get(instance)
    assert (record.state, record.attempts, record.crashes) == (State.QUEUED, 0, 0)
    assert worker.take_ids() == [instance]


def test_ends_and_leases_in_one_step(storage: Storage, worker: Worker) -> None:
    first, second = enqueue(storage), enqueue(storage)
    lease = worker.take_one()
    step = worker.step(End(lease.id, lease.token, State.DONE), want=1)
    assert [one.id for one in step.leases] == [second]
    assert storage.get(first).state is State.DONE


def test_many_ends_in_one_step(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage) for _ in range(40)]
    step = worker.step(*[End(lease.id, lease.token, State.DONE) for lease in worker.take()])
    assert step.lost == []
    assert {storage.get(one).state for one in ids} == {State.DONE}


def test_an_end_without_reason_clears_the_reason_of_the_last_attempt(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    worker.run(instance, State.SCHEDULED, due=storage.now() - 1000, reason="450 try later", error="SmtpError")
    worker.run(instance, State.DONE)
    record = storage.get(instance)
    assert (record.reason, record.error) == (None, None)


def test_texts_of_any_language_are_kept(storage: Storage, worker: Worker) -> None:
    instance, text = enqueue(storage), "größer € \U0001f4a9 'quoted' \"%s\" \\"
    worker.run(instance, State.DEAD, reason=text, entry=json.dumps({"text": text}, ensure_ascii=False))
    record = storage.get(instance)
    assert record.reason == text
    assert json.loads(record.history[0]) == {"text": text}


def test_the_history_is_in_order_and_loses_its_oldest_lines(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    for number in range(MAX_HISTORY + 3):
        worker.run(instance, State.QUEUED, counted=False, entry=json.dumps({"n": number}))
    numbers = [json.loads(line)["n"] for line in storage.get(instance).history]
    assert numbers == list(range(3, MAX_HISTORY + 3))


# -- leases that are no longer held ----------------------------------------------------------------------------------


def test_an_end_with_a_wrong_token_is_lost(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    lease = worker.take_one()
    step = worker.step(End(lease.id, "no such token", State.DONE))
    assert step.lost == [instance]
    assert storage.get(instance).state is State.RUNNING


def test_an_end_of_an_unknown_instance_is_lost(worker: Worker) -> None:
    assert worker.step(End("nothing", "token", State.DONE)).lost == ["nothing"]


def test_a_second_end_of_a_lease_is_lost(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    lease = worker.take_one()
    worker.end(lease, State.DONE, reason="first")
    step = worker.step(End(lease.id, lease.token, State.DEAD, reason="second", entry="{}", body=b"other"))
    assert step.lost == [instance]
    record = storage.get(instance)
    assert (record.state, record.reason, record.attempts, record.history) == (State.DONE, "first", 1, ())
    assert not record.has_body


def test_an_end_after_recovery_is_lost_and_changes_nothing(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    instance, other = enqueue(storage), start_worker()
    lease = worker.take_one()
    worker.fall_silent()
    other.beat()
    before = storage.get(instance)
    step = worker.step(End(lease.id, lease.token, State.DONE, reason="late", entry='{"late": 1}', body=b"late"))
    assert step.lost == [instance]
    assert storage.get(instance) == before
    assert storage.body(instance) != b"late"


def test_an_end_is_lost_when_another_worker_runs_the_instance(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    instance, other = enqueue(storage), start_worker()
    lost = worker.take_one()
    worker.fall_silent()
    other.beat()
    held = other.take_one()
    assert worker.step(End(lost.id, lost.token, State.DEAD)).lost == [instance]
    assert storage.get(instance).state is State.RUNNING
    other.end(held, State.DONE)
    assert storage.get(instance).state is State.DONE


def test_a_lost_end_does_not_disturb_the_others(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage) for _ in range(3)]
    first, second, third = worker.take()
    step = worker.step(
        End(first.id, first.token, State.DONE),
        End(second.id, "wrong", State.DONE),
        End(third.id, third.token, State.DONE),
    )
    assert step.lost == [ids[1]]
    assert [storage.get(one).state for one in ids] == [State.DONE, State.RUNNING, State.DONE]


def test_an_end_after_the_session_was_closed_is_lost(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    lease = worker.take_one()
    storage.close_session(worker.session)
    assert worker.step(End(lease.id, lease.token, State.DONE)).lost == [instance]
    assert storage.get(instance).state is State.QUEUED
