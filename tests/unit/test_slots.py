"""What a slot leases ahead, and what it gives back."""

from __future__ import annotations

from contextlib import nullcontext

import msgspec
import pytest

from pijobs.jobs import State
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.values import Lease, NewInstance
from pijobs.testing import ManualClock, SwitchedStorage
from pijobs.worker import slots
from pijobs.worker.session import Session, describe_process
from pijobs.worker.slots import AHEAD_LIMIT, AHEAD_MOST, AHEAD_WORK, Slot, return_late_leases

LEASE = Lease("1", "t1", "test.job", b"", b"", "test.job", 0, attempts=0, crashes=0, held_since=None, due=0, leased=0)


@pytest.fixture
def session() -> Session:
    return Session(MemoryStorage(), describe_process(), lease=10)


def test_work_of_unknown_length_is_taken_one_by_one() -> None:
    assert Slot().want() == 1


def test_short_jobs_are_taken_in_batches_but_never_more_than_the_most() -> None:
    slot = Slot()
    for _ in range(100):
        slot.took("test.job", 0.0001)
    assert slot.want() == AHEAD_MOST


def test_one_slow_job_ends_the_batches_at_once() -> None:
    slot = Slot(mean=0.0001)
    slot.took("test.job", AHEAD_WORK * 2)
    assert slot.want() == 1


def test_moments_of_a_busy_machine_leave_a_batch_as_it_is() -> None:
    slot = Slot()
    for _ in range(100):
        slot.took("test.job", 0.0001)
    for _ in range(2):
        slot.took("test.job", AHEAD_WORK * 3)
    assert slot.want() == AHEAD_MOST and slot.is_short("test.job")
    slot.took("test.job", AHEAD_WORK * 3)
    assert slot.want() == 1 and not slot.is_short("test.job")


def test_a_job_that_takes_as_long_as_others_may_wait_for_it_ends_the_batches_at_once() -> None:
    slot = Slot()
    for _ in range(100):
        slot.took("test.job", 0.0001)
    slot.took("test.job", AHEAD_LIMIT)
    assert slot.want() == 1 and not slot.is_short("test.job")


def test_quick_jobs_of_one_name_do_not_hide_slow_ones_of_another() -> None:
    slot = Slot()
    for _ in range(20):
        slot.took("test.job", 0.0001)
        slot.took("test.other", AHEAD_WORK * 3)
    assert slot.want() == 1


def test_leases_are_run_in_the_order_of_the_storage(session: Session) -> None:
    slot = Slot()
    slot.take(session, [LEASE, msgspec.structs.replace(LEASE, id="2")])
    taken = [slot.next() for _ in range(3)]
    assert taken == [(session, LEASE), (session, msgspec.structs.replace(LEASE, id="2")), None]


@pytest.mark.parametrize("crashed", [0, 1])
def test_what_went_down_with_a_worker_has_no_company(session: Session, crashed: int) -> None:
    slot = Slot()
    line = [msgspec.structs.replace(LEASE, id=str(n), crashes=int(n == crashed)) for n in range(3)]
    slot.take(session, line)
    assert [slot.next(), slot.next()] == [(session, line[0]), None]
    assert [(end.id, end.state, end.counted) for end in slot.unacknowledged[session]] == [
        ("1", State.QUEUED, False),
        ("2", State.QUEUED, False),
    ]


def test_what_waits_too_long_behind_a_slow_job_goes_back_uncounted(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = Slot()
    monkeypatch.setattr(slots, "AHEAD_LIMIT", -1.0)
    slot.take(session, [LEASE])
    assert slot.next() is None
    (end,) = slot.unacknowledged[session]
    assert (end.id, end.token, end.state, end.counted) == ("1", "t1", State.QUEUED, False)


@pytest.mark.parametrize("away", [False, True])
def test_what_waits_behind_a_job_that_does_not_end_goes_back_meanwhile(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    storage = SwitchedStorage(clock=clock)
    session = Session(storage, describe_process(), lease=10, clock=clock)
    session.beat()
    for number in range(3):
        storage.enqueue(
            NewInstance(id=str(number), name="test.job", envelope=b"", body=b"", group="test.job"), timeout=1
        )
    slot = Slot()
    slot.take(session, session.step([], want=3).leases)
    assert slot.next() is not None
    return_late_leases([slot])
    assert len(slot.ahead) == 2  # it may be over in a moment

    slot.ahead_until = float("-inf")
    with storage.is_down() if away else nullcontext():
        return_late_leases([slot])
    assert slot.next() is None
    if away:
        for _ in range(2):  # two signs of life find that they don't run here
            session.beat()
    assert [storage.get(str(number)).state for number in range(3)] == [State.RUNNING, State.QUEUED, State.QUEUED]
    assert [storage.get(str(number)).crashes for number in range(3)] == [0, 0, 0]


def test_after_a_job_that_must_not_happen_twice_the_next_are_taken_one_by_one() -> None:
    slot = Slot()
    for _ in range(50):
        slot.took("test.job", 0.0001)
    assert slot.want() > 1
    slot.took("test.job", 0.0001, careful=True)
    assert slot.want() == 1


def test_a_job_is_short_when_it_was_so_of_late() -> None:
    slot = Slot()
    assert not slot.is_short("test.job")
    slot.took("test.job", 0.0001)
    assert slot.is_short("test.job") and not slot.is_short("test.other")
    slot.took("test.job", AHEAD_WORK)
    assert not slot.is_short("test.job")
