"""The same order, limits, pauses and blocks where more groups are in use than any storage looks at one by one."""

from __future__ import annotations

import pytest

from pijobs.jobs import State
from pijobs.storage.contract import Storage

from .conftest import Advance
from .test_waiting import SOON, noticed, waiting
from .workers import LONG, Worker, enqueue

#: More than what an SQL storage looks at one by one, and than what it finds at once.
MANY = 110


@pytest.fixture
def ids(storage: Storage) -> list[str]:
    """One waits in each of many groups."""
    return [enqueue(storage, group=f"group{number:03}", limit=1) for number in range(MANY)]


def block(storage: Storage, name: str, until: int) -> None:
    known = storage.group(name)
    assert known is not None
    assert storage.set_group(name, version=known.version, limit=1, blocked_until=until, policy="", keep=LONG)


def test_the_oldest_come_first_and_the_urgent_before_them(storage: Storage, worker: Worker, ids: list[str]) -> None:
    urgent = enqueue(storage, group="group050", priority=10)
    assert worker.take_ids(3) == [urgent, *ids[:2]]
    assert worker.take_ids(3, floor=1) == []
    assert worker.take_ids(90) == [one for one in ids[2:] if one != ids[50]][:90]


def test_a_full_group_hides_no_other_however_much_waits_in_it(storage: Storage, worker: Worker, ids: list[str]) -> None:
    full = [enqueue(storage, group="full", limit=2, priority=1) for _ in range(MANY)]
    assert worker.take_ids(4) == [*full[:2], *ids[:2]]
    assert worker.take_ids(2) == ids[2:4]


def test_what_ends_makes_room_for_the_next_of_its_group(storage: Storage, worker: Worker, ids: list[str]) -> None:
    second = enqueue(storage, group="group000", limit=1, priority=1)
    lease = worker.take_one()
    assert lease.id == second and worker.take_ids(1) == [ids[1]]
    worker.end(lease, State.DONE)
    assert worker.take_ids(1) == [ids[0]]


def test_nothing_is_leased_past_a_pause_or_a_block(storage: Storage, worker: Worker, ids: list[str]) -> None:
    storage.pause("group000")
    block(storage, "group001", storage.now() + LONG)
    assert worker.take_ids(2) == ids[2:4]
    storage.resume("group000")
    assert worker.take_ids(1) == [ids[0]]
    storage.pause()
    assert worker.take_ids(1) == []


def test_who_waits_is_woken_when_the_only_block_ends(
    storage: Storage, worker: Worker, advance: Advance, ids: list[str]
) -> None:
    while worker.take():
        pass
    block(storage, "group000", storage.now() + LONG)
    enqueue(storage, group="down", limit=1)
    block(storage, "down", storage.now() + 300)
    assert worker.take() == []
    with waiting(worker) as waiter:
        assert noticed(waiter, lambda: advance(300)) < 0.3 + SOON


def test_what_is_overdue_ends_and_the_next_comes(
    storage: Storage, worker: Worker, advance: Advance, ids: list[str]
) -> None:
    late = [enqueue(storage, group="late", priority=1, deadline=storage.now() + 1) for _ in range(3)]
    advance(5)
    step = worker.step(want=1)
    assert [lease.id for lease in step.leases] == ids[:1]
    assert {(one.id, one.state) for one in step.ended} <= {(one, State.EXPIRED) for one in late}
    assert storage.get(late[0]).state is State.EXPIRED
