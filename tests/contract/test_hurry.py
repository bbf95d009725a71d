"""What waits for its next attempt in a group is made due at once."""

from __future__ import annotations

from contract.workers import LONG, Worker, enqueue
from pijobs.jobs import State
from pijobs.storage.contract import Storage


def test_what_was_attempted_is_due_now_and_what_was_not_keeps_its_time(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage, group=group) for group in ("smtp:main", "smtp:main", "smtp:other")]
    for lease in worker.take(3):
        worker.end(lease, State.SCHEDULED, due=storage.now() + LONG)
    planned = enqueue(storage, group="smtp:main", due=storage.now() + LONG)
    assert worker.take() == []
    assert storage.make_due("smtp:main") == 2
    assert sorted(worker.take_ids()) == sorted(ids[:2])
    assert storage.get(planned).due > storage.now() < storage.get(ids[2]).due
    assert storage.make_due("smtp:main") == storage.make_due("nobody") == 0


def test_more_than_one_part_is_made_due(storage: Storage, worker: Worker) -> None:
    for _ in range(105):
        enqueue(storage, group="smtp:main")
    for lease in [*worker.take(100), *worker.take(100)]:
        worker.end(lease, State.SCHEDULED, due=storage.now() + LONG)
    assert storage.make_due("smtp:main") == 105


def test_a_worker_that_waits_is_told(storage: Storage, worker: Worker) -> None:
    enqueue(storage, group="smtp:main")
    worker.end(worker.take_one(), State.SCHEDULED, due=storage.now() + LONG)
    storage.make_due("smtp:main")
    # It returns at once, long before its time-out.
    storage.wait(30)
    assert len(worker.take()) == 1
