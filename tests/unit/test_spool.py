"""The spool gives back what no local worker took: in time, once, and on the right clock."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from services import wait_until

from pijobs import Job, State
from pijobs.codec import open_envelope
from pijobs.errors import InstanceNotFound, StorageUnavailable
from pijobs.plugins import Plugins
from pijobs.queue import Handle, Queue
from pijobs.registry import Registry
from pijobs.settings import CORE_SETTINGS, PREFIX, validate
from pijobs.spool import HOLD, on_clock
from pijobs.storage.contract import NewInstance, SessionInfo, Storage, Stored
from pijobs.storage.memory import MemoryStorage
from pijobs.testing.clock import ManualClock

AWAY = StorageUnavailable("connection refused")
#: Seconds that the clock of the storage is ahead of that of this machine.
AHEAD = 300


class Cable(MemoryStorage):
    """The memory storage; ``error`` is what happens at enqueue, after so many that succeed."""

    def __init__(self, name: str, clock: ManualClock) -> None:
        super().__init__(name, clock=clock)
        self.error: Exception | None = None
        self.lasts = 0

    def enqueue(self, new: NewInstance, **options: Any) -> Stored:
        if self.error is not None and self.lasts <= 0:
            raise self.error
        self.lasts -= 1
        return super().enqueue(new, **options)


@pytest.fixture
def storage(clock: ManualClock) -> Cable:
    return Cable("main", ManualClock(clock.time() + AHEAD))


@pytest.fixture
def spool(clock: ManualClock) -> Cable:
    return Cable("spool", clock)


@pytest.fixture
def queue(storage: Cable, spool: Cable, tmp_path: Path) -> Queue:
    registry = Registry.of([Job("a.b", lambda *args: None, expires=60, subject=lambda text: text)])
    values = {"SECRET_KEY": "s", PREFIX + "FALLBACK": ("spool",)}
    return Queue(
        validate(values, CORE_SETTINGS, directory=tmp_path), registry, Plugins([]), storage=storage, spool=spool
    )


def live_worker(storage: Storage) -> str:
    storage.open_session(SessionInfo("w", "host", 1, storage.now(), "1"), lease=60_000)
    return "w"


@pytest.fixture
def spooled(queue: Queue, storage: Cable, spool: Cable) -> Callable[..., Handle]:
    """Enqueue while the storage is away."""
    live_worker(spool)

    def enqueue(text: str = "x", **options: Any) -> Handle:
        storage.error, storage.lasts = AWAY, 0
        handle = queue.enqueue("a.b", [text], **options)
        storage.error = None
        assert handle.via == "spool"
        return handle

    return enqueue


def left_in(spool: Storage) -> int:
    return sum(spool.depths().counts.values())


def test_the_next_enqueue_moves_what_no_worker_took(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle]
) -> None:
    handles = [spooled() for _ in range(120)]
    fresh = queue.enqueue("a.b", ["fresh"])
    assert fresh.via == "storage"
    wait_until(lambda: left_in(spool) == 0, what="the move")
    assert {storage.get(handle.id).state for handle in handles} == {State.QUEUED}
    assert left_in(storage) == 121


def test_the_deadline_is_the_same_moment_on_either_clock(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle]
) -> None:
    handle = spooled(delay=5)
    here = spool.get(handle.id)
    assert here.deadline == spool.now() + 60_000 == open_envelope(here.envelope).deadline
    assert (here.created, here.due) == (spool.now(), spool.now() + 5000)
    queue.enqueue("a.b", ["fresh"])
    wait_until(lambda: left_in(spool) == 0, what="the move")
    there = storage.get(handle.id)
    assert there.deadline == storage.now() + 60_000 == open_envelope(there.envelope).deadline
    assert (there.created, there.due, there.state) == (storage.now(), storage.now() + 5000, State.SCHEDULED)


def test_arguments_and_subject_survive_the_move(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle]
) -> None:
    handle = spooled("ä text", priority=7)
    queue.enqueue("a.b", ["fresh"])
    wait_until(lambda: left_in(spool) == 0, what="the move")
    record, body = storage.get(handle.id), storage.body(handle.id)
    assert body is not None and queue.codec().decode(record.envelope, body).args == ("ä text",)
    subject = next(new.subject for new in storage.take_out(9, hold=1) if new.id == handle.id)
    assert record.priority == 7 and storage.page(State.QUEUED, subject=subject).records[0].id == handle.id


def test_what_a_worker_has_taken_stays(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle]
) -> None:
    taken, waiting = spooled(), spooled()
    (lease,) = spool.step("w", [], want=1).leases
    queue.enqueue("a.b", ["fresh"])
    wait_until(lambda: left_in(spool) == 1, what="the move")
    assert lease.id == taken.id and spool.get(taken.id).state is State.RUNNING
    with pytest.raises(InstanceNotFound):
        storage.get(taken.id)
    assert storage.get(waiting.id).state is State.QUEUED


def test_a_move_that_is_interrupted_loses_nothing_and_stores_nothing_twice(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle], clock: ManualClock
) -> None:
    handles = [spooled() for _ in range(10)]
    # The enqueue itself and three of those that move.
    storage.error, storage.lasts = AWAY, 4
    queue.enqueue("a.b", ["fresh"])
    wait_until(lambda: left_in(spool) == 7, what="the interrupted move")
    wait_until(lambda: not moves(), what="the end of its thread: while it lives, no other begins")
    assert spool.step("w", [], want=10).leases == []
    storage.error = None
    clock.advance(HOLD / 1000 + 1)
    queue.enqueue("a.b", ["fresh"])
    wait_until(lambda: left_in(spool) == 0, what="the rest")
    assert {storage.get(handle.id).state for handle in handles} == {State.QUEUED}
    assert left_in(storage) == 12


def test_after_a_crash_between_storing_and_forgetting_it_is_found_in_the_storage(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle], clock: ManualClock
) -> None:
    handle = spooled()
    (new,) = spool.take_out(10, hold=HOLD)
    storage.enqueue(on_clock(new, queue.codec(), AHEAD * 1000), timeout=1)  # and here the process is killed
    live_worker(storage)
    (lease,) = storage.step("w", [], want=10).leases
    clock.advance(HOLD / 1000 + 1)
    queue.enqueue("a.b", ["fresh"])
    wait_until(lambda: left_in(spool) == 0, what="the move")
    assert (lease.id, storage.get(handle.id).state) == (handle.id, State.RUNNING)


def test_a_newer_instance_with_the_same_key_wins(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle], clock: ManualClock
) -> None:
    older = spooled("1", key="alice")
    clock.advance(1)
    storage._clock.advance(1)  # type: ignore[attr-defined]
    newer = queue.enqueue("a.b", ["2"], key="alice")
    wait_until(lambda: spool.get(older.id).state is State.CANCELLED, what="the end of the older one")
    assert spool.get(older.id).reason == f"superseded by {newer.id}"
    assert storage.get(newer.id).state is State.QUEUED


def test_an_older_instance_with_the_same_key_is_superseded(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle], clock: ManualClock
) -> None:
    older = queue.enqueue("a.b", ["1"], key="alice")
    clock.advance(1)
    storage._clock.advance(1)  # type: ignore[attr-defined]
    newer = spooled("2", key="alice")
    queue.enqueue("a.b", ["fresh"])
    wait_until(lambda: left_in(spool) == 0, what="the move")
    assert (storage.get(older.id).state, storage.get(newer.id).state) == (State.CANCELLED, State.QUEUED)


def test_an_instance_of_another_key_ring_moves_as_it_is(
    queue: Queue, storage: Cable, spool: Cable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = NewInstance("foreign", "a.b", b"not an envelope", b"body", "a.b", created=spool.now())
    spool.enqueue(foreign, timeout=1)
    queue.enqueue("a.b", ["fresh"])
    wait_until(lambda: left_in(spool) == 0, what="the move")
    assert storage.body("foreign") == b"body"
    assert "keeps the times of another clock" in caplog.text


def test_what_another_process_left_in_the_spool_is_moved_too(queue: Queue, storage: Cable, spool: Cable) -> None:
    spool.enqueue(NewInstance("left", "a.b", b"", b"", "a.b"), timeout=1)
    queue.enqueue("a.b", ["fresh"])
    wait_until(lambda: left_in(spool) == 0, what="the move")
    assert storage.get("left").state is State.QUEUED


def test_an_enqueue_does_not_look_into_the_spool_each_time(
    queue: Queue, spool: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def look(number: int, hold: int) -> list[NewInstance]:
        looks.append(number)
        return []

    monkeypatch.setattr(spool, "take_out", look)
    for _ in range(50):
        queue.enqueue("a.b", ["x"])
    wait_until(lambda: len(looks) == 1, what="the first look")
    assert len(looks) == 1


def test_a_spool_that_can_not_be_emptied_fails_no_enqueue(
    queue: Queue, spool: Cable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(number: int, hold: int) -> list[NewInstance]:
        raise OSError("disk on fire")

    monkeypatch.setattr(spool, "take_out", broken)
    assert queue.enqueue("a.b", ["x"]).via == "storage"
    wait_until(lambda: "the spool could not be emptied" in caplog.text, what="the log line")
    assert logging.ERROR in {record.levelno for record in caplog.records}


def moves() -> bool:
    return any(thread.name == "pijobs-spool" for thread in threading.enumerate())
