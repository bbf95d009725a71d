"""Periodic jobs: once per due time, over all workers."""

from __future__ import annotations

from pijobs.errors import InstanceNotFound
from pijobs.jobs import State
from pijobs.storage.contract import Storage

from .workers import Worker, new_instance

DUE = 1_700_000_000_000


def test_a_due_time_is_taken_once(storage: Storage, peer: Storage, worker: Worker) -> None:
    first, second = new_instance(), new_instance()
    assert storage.enqueue_periodic(first, due=DUE) is True
    assert peer.enqueue_periodic(second, due=DUE) is False
    assert worker.take_ids() == [first.id]
    try:
        storage.get(second.id)
    except InstanceNotFound:
        return
    raise AssertionError("the second instance was stored")


def test_the_next_due_time_is_taken_too(storage: Storage, worker: Worker) -> None:
    first, second = new_instance(), new_instance()
    assert storage.enqueue_periodic(first, due=DUE)
    assert storage.enqueue_periodic(second, due=DUE + 60_000)
    assert worker.take_ids() == [first.id, second.id]


def test_an_earlier_due_time_is_refused(storage: Storage) -> None:
    storage.enqueue_periodic(new_instance(), due=DUE)
    assert storage.enqueue_periodic(new_instance(), due=DUE - 60_000) is False
    assert storage.last_periodic("test.job") == DUE


def test_what_was_taken_by_a_wrong_clock_silences_nothing(storage: Storage) -> None:
    now = storage.now()
    assert storage.enqueue_periodic(new_instance(), due=now + 365 * 86_400_000)
    taken = [storage.enqueue_periodic(new_instance(), due=now + minute * 60_000) for minute in (0, 1, 1, 2)]
    assert taken == [True, True, False, True]
    assert storage.last_periodic("test.job") == now + 120_000


def test_a_clock_that_was_set_back_a_little_takes_nothing_twice(storage: Storage) -> None:
    now = storage.now()
    assert storage.enqueue_periodic(new_instance(), due=now + 3_600_000)
    assert storage.enqueue_periodic(new_instance(), due=now) is False


def test_a_due_time_stays_taken_when_its_instance_has_gone(storage: Storage, worker: Worker) -> None:
    new = new_instance()
    storage.enqueue_periodic(new, due=DUE)
    worker.run(new.id, State.DONE)
    storage.remove(new.id)
    worker.beat()
    assert storage.enqueue_periodic(new_instance(), due=DUE) is False


def test_the_last_due_time_of_each_job_is_remembered(storage: Storage, peer: Storage) -> None:
    assert storage.last_periodic("job.one") is None
    storage.enqueue_periodic(new_instance(name="job.one"), due=DUE)
    assert peer.enqueue_periodic(new_instance(name="job.two"), due=DUE + 1)
    assert peer.last_periodic("job.one") == DUE
    assert storage.last_periodic("job.two") == DUE + 1


def test_a_periodic_instance_is_like_any_other(storage: Storage, worker: Worker) -> None:
    new = new_instance(priority=7, group="nightly", deadline=storage.now() + 600_000)
    storage.enqueue_periodic(new, due=storage.now())
    record = storage.get(new.id)
    assert (record.state, record.priority, record.group) == (State.QUEUED, 7, "nightly")
    assert (record.deadline, record.envelope) == (new.deadline, new.envelope)
    assert worker.take_one().body == new.body
    assert storage.depths().counts[("test.job", State.RUNNING)] == 1


def test_a_time_that_was_cancelled_before_it_came_does_not_run(storage: Storage, worker: Worker) -> None:
    due = storage.now() + 60_000
    new = new_instance(id="skipped", due=due, keep=90_000)
    storage.enqueue(new, timeout=5)
    storage.cancel("skipped", reason="skipped")
    storage.enqueue_periodic(new, due=due)
    assert storage.get("skipped").state is State.CANCELLED and storage.last_periodic("test.job") == due
    assert not worker.take()
