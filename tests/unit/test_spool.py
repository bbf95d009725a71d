"""The spool gives back what no local worker took: in time, once, and on the right clock."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pijobs import Job, State
from pijobs.errors import EncodeError, InstanceNotFound, InstanceRefused, StorageFull, StorageUnavailable
from pijobs.payload.codec import Call, open_envelope
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.calls import JobCall
from pijobs.request.queue import Handle, Queue
from pijobs.request.spool import HOLD, LEFT_ALONE, MOST_STRIKES, REQUEST_BATCH, Mover, known, on_clock
from pijobs.settings import CORE_SETTINGS, PREFIX, validate
from pijobs.storage.contract import Storage
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.records import Page, Record
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import NewInstance, OnConflict, Stored
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

    def enqueue_many(self, batch: Sequence[tuple[NewInstance, OnConflict]], **options: Any) -> list[Stored]:
        if self.error is not None and self.lasts <= 0:
            raise self.error
        self.lasts -= 1
        return super().enqueue_many(batch, **options)


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
    """Enqueue while the storage is away; a worker lives on this machine."""
    live_worker(spool)

    def enqueue(text: str = "x", **options: Any) -> Handle:
        storage.error, storage.lasts = AWAY, 0
        handle = queue.enqueue("a.b", [text], **options)
        storage.error = None
        assert handle.via == "spool"
        return handle

    return enqueue


@pytest.fixture
def look(queue: Queue) -> Callable[[], None]:
    """The worker looks into the spool, as it does once a second."""

    def move() -> None:
        assert queue.enqueuer.mover is not None
        queue.enqueuer.mover.look_soon()
        queue.move_from_spool()

    return move


@pytest.fixture
def without_worker(queue: Queue, spool: Cable) -> Callable[[], Handle]:
    """An enqueue of a server, with no worker on its machine."""

    def enqueue() -> Handle:
        assert queue.enqueuer.mover is not None
        spool.close_session("w")
        queue.enqueuer.mover.look_soon()
        return queue.enqueue("a.b", ["fresh"])

    return enqueue


def left_in(spool: Storage) -> int:
    return sum(spool.depths().counts.values())


def waiting_in(spool: Storage) -> int:
    counts = spool.depths().counts
    return sum(number for (_, state), number in counts.items() if state in (State.QUEUED, State.SCHEDULED))


def test_the_worker_of_this_machine_moves_what_nobody_took(
    storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None]
) -> None:
    handles = [spooled() for _ in range(120)]
    look()
    assert left_in(spool) == 0 and left_in(storage) == 120
    assert {storage.get(handle.id).state for handle in handles} == {State.QUEUED}


def test_a_server_leaves_the_spool_to_a_worker_that_lives(
    queue: Queue, spool: Cable, spooled: Callable[..., Handle]
) -> None:
    spooled()
    assert queue.enqueue("a.b", ["fresh"]).via == "storage"
    assert left_in(spool) == 1


def test_where_no_worker_lives_each_enqueue_of_a_server_moves_for_a_moment(
    storage: Cable, spool: Cable, spooled: Callable[..., Handle], without_worker: Callable[[], Handle],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for _ in range(REQUEST_BATCH * 2):
        spooled()
    # No time passes but this: one instance takes a second, which is all of the time.
    real, late, now = Mover._move, iter([1.0]), [time.monotonic()]

    def slow(mover: Mover, new: NewInstance, timeout: float) -> None:
        real(mover, new, timeout)
        now[0] += next(late, 0)

    monkeypatch.setattr("pijobs.base.clock.monotonic", lambda: now[0])
    monkeypatch.setattr(Mover, "_move", slow)
    assert without_worker().via == "storage"
    assert left_in(spool) == REQUEST_BATCH * 2 - 1
    without_worker()
    assert left_in(spool) == REQUEST_BATCH - 1, "the others of the first batch are held"


def test_a_server_starts_no_thread(spooled: Callable[..., Handle], without_worker: Callable[[], Handle]) -> None:
    before = threading.active_count()
    spooled()
    without_worker()
    assert threading.active_count() == before


def test_the_deadline_is_the_same_moment_on_either_clock(
    storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None]
) -> None:
    handle = spooled(delay=5)
    here = spool.get(handle.id)
    assert here.deadline == spool.now() + 60_000 == open_envelope(here.envelope).deadline
    assert (here.created, here.due) == (spool.now(), spool.now() + 5000)
    look()
    there = storage.get(handle.id)
    assert there.deadline == storage.now() + 60_000 == open_envelope(there.envelope).deadline
    assert (there.created, there.due, there.state) == (storage.now(), storage.now() + 5000, State.SCHEDULED)


def test_arguments_and_subject_survive_the_move(
    queue: Queue, storage: Cable, spooled: Callable[..., Handle], look: Callable[[], None]
) -> None:
    handle = spooled("ä text", priority=7)
    look()
    record, body = storage.get(handle.id), storage.body(handle.id)
    assert body is not None and queue.codec().decode(record.envelope, body).args == ("ä text",)
    subject = next(new.subject for new in storage.take_out(9, hold=1) if new.id == handle.id)
    assert record.priority == 7 and storage.page(State.QUEUED, subject=subject).records[0].id == handle.id


def test_what_a_worker_has_taken_stays(
    storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None]
) -> None:
    taken, waiting = spooled(), spooled()
    (lease,) = spool.step("w", [], want=1).leases
    look()
    assert left_in(spool) == 1
    assert lease.id == taken.id and spool.get(taken.id).state is State.RUNNING
    with pytest.raises(InstanceNotFound):
        storage.get(taken.id)
    assert storage.get(waiting.id).state is State.QUEUED


def test_a_move_that_is_interrupted_loses_nothing_and_stores_nothing_twice(
    storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None], clock: ManualClock
) -> None:
    handles = [spooled() for _ in range(10)]
    storage.error, storage.lasts = AWAY, 3
    look()
    assert left_in(spool) == 7
    assert spool.step("w", [], want=10).leases == []
    storage.error = None
    clock.advance(HOLD + 0.1)
    look()
    assert left_in(spool) == 0
    assert {storage.get(handle.id).state for handle in handles} == {State.QUEUED}
    assert left_in(storage) == 10


def test_after_a_crash_between_storing_and_forgetting_it_is_found_in_the_storage(
    queue: Queue,
    storage: Cable,
    spool: Cable,
    spooled: Callable[..., Handle],
    look: Callable[[], None],
    clock: ManualClock,
) -> None:
    handle = spooled()
    (new,) = spool.take_out(10, hold=1000)
    storage.enqueue(on_clock(new, queue.codec(), AHEAD * 1000), timeout=1)  # and here the process is killed
    live_worker(storage)
    (lease,) = storage.step("w", [], want=10).leases
    clock.advance(1.1)
    look()
    assert left_in(spool) == 0
    assert (lease.id, storage.get(handle.id).state) == (handle.id, State.RUNNING)


def test_a_process_that_was_stopped_while_it_took_out_begins_no_move(
    storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock,
) -> None:  # fmt: skip
    """By the time that it goes on, the hold may be over, and a worker have taken what it took out."""
    spooled()
    real = spool.take_out

    def stopped(*args: Any, **options: Any) -> list[NewInstance]:
        taken = real(*args, **options)
        moment = time.monotonic() + HOLD
        monkeypatch.setattr("pijobs.base.clock.monotonic", lambda: moment)
        return taken

    monkeypatch.setattr(spool, "take_out", stopped)
    look()
    assert left_in(storage) == 0 and left_in(spool) == 1


def test_a_newer_instance_with_the_same_key_wins(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None],
    clock: ManualClock,
) -> None:  # fmt: skip
    older = spooled("1", key="alice")
    clock.advance(1)
    storage._clock.advance(1)  # type: ignore[attr-defined]
    newer = queue.enqueue("a.b", ["2"], key="alice")
    look()
    assert left_in(spool) == 0 and storage.get(older.id).state is State.CANCELLED
    assert storage.get(older.id).reason == f"superseded by {newer.id}"
    assert storage.get(newer.id).state is State.QUEUED


def test_an_older_instance_with_the_same_key_is_superseded(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None],
    clock: ManualClock,
) -> None:  # fmt: skip
    older = queue.enqueue("a.b", ["1"], key="alice")
    clock.advance(1)
    storage._clock.advance(1)  # type: ignore[attr-defined]
    newer = spooled("2", key="alice")
    look()
    assert left_in(spool) == 0
    assert (storage.get(older.id).state, storage.get(newer.id).state) == (State.CANCELLED, State.QUEUED)


def test_an_instance_of_another_key_ring_moves_as_it_is(
    storage: Cable, spool: Cable, look: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    foreign = NewInstance("foreign", "a.b", b"not an envelope", b"body", "a.b", created=spool.now())
    spool.enqueue(foreign, timeout=1)
    look()
    assert storage.body("foreign") == b"body"
    assert "keeps the times of another clock" in caplog.text


def test_what_another_process_left_in_the_spool_is_moved_too(queue: Queue, storage: Cable, spool: Cable) -> None:
    spool.enqueue(NewInstance("left", "a.b", b"", b"", "a.b"), timeout=1)
    queue.enqueue("a.b", ["fresh"])
    assert storage.get("left").state is State.QUEUED


def test_an_enqueue_does_not_look_into_the_spool_each_time(
    queue: Queue, spool: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[State] = []
    real = spool.page

    def page(state: State, **options: Any) -> Page:
        looks.append(state)
        return real(state, **options)

    monkeypatch.setattr(spool, "page", page)
    for _ in range(50):
        queue.enqueue("a.b", ["x"])
    assert looks == [State.SCHEDULED, State.QUEUED]


def test_a_spool_that_can_not_be_emptied_fails_no_enqueue(
    queue: Queue, spool: Cable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(state: State, **options: Any) -> Page:
        raise OSError("disk on fire")

    monkeypatch.setattr(spool, "page", broken)
    assert queue.enqueue("a.b", ["x"]).via == "storage"
    assert "the spool could not be emptied" in caplog.text
    assert logging.ERROR in {record.levelno for record in caplog.records}


# -- what the storage does not take ----------------------------------------------------------------------------------


def refuse(storage: Cable, monkeypatch: pytest.MonkeyPatch, ids: set[str], error: Exception) -> None:
    """The storage takes all but these."""
    real = storage.enqueue_many

    def enqueue_many(batch: Sequence[tuple[NewInstance, OnConflict]], **options: Any) -> list[Stored]:
        if any(new.id in ids for new, _ in batch):
            raise error
        return real(batch, **options)

    monkeypatch.setattr(storage, "enqueue_many", enqueue_many)


@pytest.mark.parametrize(
    "error", [InstanceRefused("too large"), EncodeError("too large")], ids=lambda error: type(error).__name__
)
def test_what_the_storage_refuses_is_parked_and_the_move_goes_on(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception,
) -> None:  # fmt: skip
    poison, *behind = [spooled(str(number)) for number in range(3)]
    refuse(storage, monkeypatch, {poison.id}, error)
    look()
    assert {storage.get(handle.id).state for handle in behind} == {State.QUEUED}
    record = spool.get(poison.id)
    assert (record.state, record.has_body, left_in(spool)) == (State.DEAD, True, 1)
    assert record.reason is not None and "too large" in record.reason
    assert f"job a.b {poison.id}" in caplog.text
    assert "pijobs_failed_total" in str(queue.metrics._share.take())


def test_what_the_storage_hangs_up_on_is_parked_after_some_moves_and_keeps_nobody(
    storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None], clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    poison = [spooled(str(number)) for number in range(2)]
    refuse(storage, monkeypatch, {handle.id for handle in poison}, StorageUnavailable("connection reset"))
    behind = []
    for number in range(8):
        live_worker(spool)
        behind.append(spooled(f"behind {number}"))
        look()
        clock.advance(HOLD + 0.1)
    assert {storage.get(handle.id).state for handle in behind[:-1]} == {State.QUEUED}
    assert {spool.get(handle.id).state for handle in poison} == {State.DEAD}


def test_an_outage_during_a_move_parks_nobody(
    storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None], clock: ManualClock
) -> None:
    handles = [spooled(str(number)) for number in range(3)]
    for _ in range(2):
        storage.error, storage.lasts = AWAY, 0
        look()
        clock.advance(HOLD + 0.1)
    assert waiting_in(spool) == 3
    storage.error = None
    look()
    assert {storage.get(handle.id).state for handle in handles} == {State.QUEUED}


def test_a_storage_that_is_full_and_answers_parks_nobody(
    storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None], clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def full(*args: Any, **options: Any) -> None:
        raise StorageUnavailable("the disk is full")

    handle = spooled("1")
    with monkeypatch.context() as patch:
        patch.setattr(storage, "enqueue_many", full)
        patch.setattr(storage, "try_out", full)
        for _ in range(8):
            live_worker(spool)
            look()
            clock.advance(HOLD + 0.1)
    assert waiting_in(spool) == 1
    look()
    assert storage.get(handle.id).state is State.QUEUED


@pytest.mark.parametrize("error", [StorageFull("no memory"), StorageUnavailable("hung up")], ids=["full", "hung up"])
def test_a_storage_that_takes_nothing_parks_nobody_and_leaves_them_to_the_workers(
    storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None], clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch, error: Exception,
) -> None:  # fmt: skip
    handles = [spooled(str(number)) for number in range(2)]
    refuse(storage, monkeypatch, {handle.id for handle in handles}, error)

    def try_out() -> None:
        raise error

    monkeypatch.setattr(storage, "try_out", try_out)
    for _ in range(3 * MOST_STRIKES):
        live_worker(spool)
        look()
        clock.advance(LEFT_ALONE)
    assert waiting_in(spool) == 2
    live_worker(spool)
    session = spool.sessions()[0].info.id
    assert len(spool.step(session, [], want=2).leases) == 2


def test_what_was_parked_can_be_retried(
    queue: Queue, storage: Cable, spool: Cable, spooled: Callable[..., Handle], look: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    poison = spooled()
    with monkeypatch.context() as patch:
        refuse(storage, patch, {poison.id}, InstanceRefused())
        look()
    spool.retry(poison.id)
    look()
    assert storage.get(poison.id).state is State.QUEUED


# -- what the storage has --------------------------------------------------------------------------------------------


def test_the_storage_tells_what_it_has(storage: Cable, clock: ManualClock) -> None:
    storage.enqueue(NewInstance("there", "a.b", b"", b"", "a.b"), timeout=1)
    assert known(["there", "not"], storage) == ["there"]
    assert known([], storage) == []


def test_nothing_is_known_of_a_storage_that_does_not_answer(storage: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(instance_id: str) -> Record:
        raise AWAY

    monkeypatch.setattr(storage, "get", away)
    assert known(["there"], storage) == []


# -- what is sealed anew --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"id": "f" * 32}, {"name": "c.d"}])
def test_what_differs_from_its_envelope_is_not_sealed_anew(
    queue: Queue, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    forged = msgspec.structs.replace(as_spooled(queue), **change)
    moved = on_clock(forged, queue.codec(), AHEAD * 1000)
    assert (moved.envelope, moved.body) == (forged.envelope, forged.body)
    assert "its envelope belongs to another instance" in caplog.text


def test_the_deadline_is_that_of_the_envelope(queue: Queue) -> None:
    new = as_spooled(queue)
    forged = msgspec.structs.replace(new, deadline=new.created + 10**12, created=new.created + 10**9)
    moved = on_clock(forged, queue.codec(), 1000)
    sealed = open_envelope(moved.envelope)
    assert (sealed.created, sealed.deadline) == (new.created + 1000, new.created + 61_000)
    assert (moved.created, moved.deadline) == (sealed.created, sealed.deadline)


def as_spooled(queue: Queue) -> NewInstance:
    """As an enqueue puts it into the spool."""
    return queue._instance(queue.registry["a.b"], "e" * 32, Call(("x",), {}), JobCall("a.b"))
