"""What a running job tells, and what it leaves behind."""

from __future__ import annotations

from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import MAX_HISTORY, PROGRESS

from .workers import LONG, Worker, enqueue


def line(done: int) -> str:
    return f'{PROGRESS},"done":{done}}}'


def test_progress_stands_at_the_end_of_the_history(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    lease = worker.take_one()
    for done in (1, 2, 3):
        assert storage.note_progress(instance, lease.token, line(done))
    assert storage.get(instance).history == (line(3),)
    worker.end(lease, State.DONE, entry='{"event":"attempt"}')
    assert storage.get(instance).history == (line(3), '{"event":"attempt"}')


def test_each_attempt_has_its_progress(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    for _ in range(2):
        lease = worker.take_one()
        storage.note_progress(instance, lease.token, line(1))
        worker.end(lease, State.SCHEDULED, due=1, entry='{"event":"attempt"}')
    assert storage.get(instance).history == (line(1), '{"event":"attempt"}') * 2


def test_progress_keeps_the_bound_of_the_history(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    for number in range(MAX_HISTORY):
        lease = worker.take_one()
        worker.end(lease, State.SCHEDULED, counted=False, due=1, entry=f'{{"event":"{number}"}}')
    lease = worker.take_one()
    storage.note_progress(instance, lease.token, line(1))
    storage.note_progress(instance, lease.token, line(2))
    history = storage.get(instance).history
    assert len(history) == MAX_HISTORY and history[-1] == line(2)


def test_only_who_holds_the_lease_tells_progress(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    assert not storage.note_progress(instance, "token", line(1))
    lease = worker.take_one()
    assert not storage.note_progress(instance, "token", line(1))
    worker.end(lease, State.DONE)
    assert not storage.note_progress(instance, lease.token, line(1))
    assert not storage.note_progress("unknown", lease.token, line(1))
    assert storage.get(instance).history == ()


def test_a_result_takes_the_place_of_the_body(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage, keep=LONG)
    worker.end(worker.take_one(), State.DONE, envelope=b"sealed", body=b"result")
    record = storage.get(instance)
    assert (record.envelope, record.has_body, storage.body(instance)) == (b"sealed", True, b"result")


def test_what_fails_too_late_leaves_no_body(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    worker.end(worker.take_one(), State.EXPIRED, envelope=b"sealed", body=b"other arguments")
    assert not storage.get(instance).has_body and storage.body(instance) is None


def test_a_result_goes_with_its_record(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    worker.end(worker.take_one(), State.DONE, envelope=b"sealed", body=b"result")
    storage.remove(instance)
    assert sum(storage.depths().counts.values()) == 0
