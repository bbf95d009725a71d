"""What is urgent comes first, however many became due before it."""

from __future__ import annotations

import pytest

from pijobs.jobs import State
from pijobs.storage.contract import Storage

from .conftest import Advance
from .workers import LONG, Worker, enqueue

#: More than a few steps promote.
MANY = 70


@pytest.fixture(params=["scheduled", "deferred", "retried"])
def low(request: pytest.FixtureRequest, storage: Storage, worker: Worker) -> int:
    """Many of low priority that become due; answers when."""
    due = storage.now() + 150_000
    if request.param == "scheduled":
        for _ in range(MANY):
            enqueue(storage, name="news.letter", due=due)
        return due
    for _ in range(MANY):
        enqueue(storage, name="news.letter")
    state = State.QUEUED if request.param == "deferred" else State.SCHEDULED
    for lease in worker.take(MANY):
        worker.end(lease, state, due=due)
    return due


def wait_for(storage: Storage, advance: Advance, due: int) -> None:
    advance(max(0, due - storage.now()) + 5)


@pytest.mark.parametrize("floor", [None, 50])
def test_an_urgent_retry_is_leased_at_once(
    storage: Storage, worker: Worker, advance: Advance, low: int, floor: int | None
) -> None:
    urgent = enqueue(storage, priority=100, due=low + 1, deadline=low + LONG)
    wait_for(storage, advance, low)
    assert worker.take_ids(1, floor=floor) == [urgent]


def test_each_priority_comes_in_its_turn(storage: Storage, worker: Worker, advance: Advance) -> None:
    due = storage.now() + 30_000
    order = [5, -3, 0, 1000, 7, -1000, 5, 0]
    ids = {enqueue(storage, priority=priority, due=due + number): priority for number, priority in enumerate(order)}
    wait_for(storage, advance, due + len(order))
    taken = [ids[one] for _ in order for one in worker.take_ids(1)]
    assert taken == sorted(order, reverse=True)


def test_a_group_whose_block_ended_does_not_wait_behind_what_is_due(
    storage: Storage, worker: Worker, advance: Advance
) -> None:
    due = storage.now() + 150_000
    for _ in range(MANY):
        enqueue(storage, name="news.letter", due=due)
    urgent = enqueue(storage, group="down", priority=100)
    known = storage.group("down")
    assert known is not None
    assert storage.set_group("down", version=known.version, limit=None, blocked_until=due + 1, policy="")
    assert worker.take_ids() == []
    wait_for(storage, advance, due)
    assert worker.take_ids(1) == [urgent]


def test_all_that_is_due_is_leased_in_the_end(storage: Storage, worker: Worker, advance: Advance, low: int) -> None:
    urgent = enqueue(storage, priority=1, due=low + 1)
    cancelled = enqueue(storage, priority=2, due=low + 1)
    storage.cancel(cancelled, reason="by admin")
    wait_for(storage, advance, low)
    taken = [one for _ in range(MANY // 20 + 2) for one in worker.take_ids()]
    assert len(set(taken)) == MANY + 1
    assert taken[0] == urgent
    assert worker.step(want=1).next_due is None
