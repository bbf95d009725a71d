"""Many calls at once: one question to the storage for 100 of them, and what becomes of a batch that it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pijobs import Handle, Job, JobCall, JobContext, State
from pijobs.base import clock as base_clock
from pijobs.errors import (
    EncodeError,
    InstanceRefused,
    KeyConflict,
    QueueFull,
    QueueUnavailable,
    StorageUnavailable,
    UnknownJob,
)
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.queue import Queue
from pijobs.settings import CORE_SETTINGS, PREFIX, validate
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import NewInstance, OnConflict, Stored
from pijobs.testing.clock import ManualClock

NewQueue = Callable[..., Queue]


class Cable(MemoryStorage):
    """The memory storage; ``errors`` are what happens at its next batches."""

    def __init__(self, name: str, clock: ManualClock) -> None:
        super().__init__(name, clock=clock)
        self.errors: list[Exception | None] = []
        self.sizes: list[int] = []

    def enqueue_many(self, batch: Sequence[tuple[NewInstance, OnConflict]], **options: Any) -> list[Stored]:
        self.sizes.append(len(batch))
        if self.errors and (error := self.errors.pop(0)):
            raise error
        return super().enqueue_many(batch, **options)

    def names_of(self, state: State = State.QUEUED) -> list[str]:
        return [record.name for record in self.page(state, limit=1000).records]


@pytest.fixture
def storage(clock: ManualClock) -> Cable:
    return Cable("main", clock)


@pytest.fixture
def spool(clock: ManualClock) -> Cable:
    return Cable("spool", clock)


@pytest.fixture
def ran() -> list[int]:
    """What ran in the request."""
    return []


@pytest.fixture
def new_queue(tmp_path: Path, storage: Cable, spool: Cable, ran: list[int]) -> NewQueue:
    def news(ctx: JobContext, number: int, text: str = "") -> None:
        ran.append(number)

    def new(**options: Any) -> Queue:
        values = {"SECRET_KEY": "s", **{PREFIX + name: value for name, value in options.items()}}
        settings = validate(values, CORE_SETTINGS, directory=tmp_path)
        registry = Registry.of([Job("news.send", news), Job("code.send", news, expires=60)])
        return Queue(settings, registry, Plugins([]), storage=storage, spool=spool)

    return new


@pytest.fixture
def queue(new_queue: NewQueue) -> Queue:
    return new_queue()


def calls(number: int, name: str = "news.send", **options: Any) -> list[JobCall]:
    return [JobCall(name, [index], **options) for index in range(number)]


def live_worker(storage: MemoryStorage) -> None:
    storage.open_session(SessionInfo("w", "host", 1, storage.now(), "1"), lease=60_000)


def test_a_batch_has_a_hundred(queue: Queue, storage: Cable) -> None:
    handles = queue.enqueue_many(calls(250))
    assert storage.sizes == [100, 100, 50]
    assert len({handle.id for handle in handles}) == 250
    assert {(handle.state, handle.via) for handle in handles} == {(State.QUEUED, "storage")}
    assert handles[249].refresh().state is State.QUEUED


def test_a_batch_has_a_megabyte(queue: Queue, storage: Cable) -> None:
    queue.enqueue_many([JobCall("news.send", [number, "x" * 400_000]) for number in range(5)])
    assert storage.sizes == [2, 2, 1]


def test_no_calls_ask_nothing(queue: Queue, storage: Cable) -> None:
    assert queue.enqueue_many([]) == [] and storage.sizes == []


def test_each_call_has_its_options(queue: Queue, storage: Cable) -> None:
    first, second, third = queue.enqueue_many([
        JobCall("news.send", [1], key="a"),
        JobCall("news.send", [2], delay=60, priority=7),
        JobCall("code.send", kwargs={"number": 3}, key="a", expires=5),
    ])  # fmt: skip
    assert [handle.state for handle in (first, second, third)] == [State.QUEUED, State.SCHEDULED, State.QUEUED]
    assert storage.get(second.id).priority == 7
    deadline = storage.get(third.id).deadline
    assert deadline is not None and deadline - storage.now() == 5000


def test_the_last_of_a_key_waits(queue: Queue) -> None:
    first, second = queue.enqueue_many(calls(2, key="same"))
    assert first.refresh().state is State.CANCELLED and second.state is State.QUEUED


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (JobCall("no.job"), UnknownJob),
        (JobCall("news.send", [object()]), EncodeError),
        (JobCall("news.send", ["too", "many", "arguments"]), EncodeError),
        (JobCall("news.send", [1], delay=-1), ValueError),
    ],
)
def test_all_calls_are_looked_at_before_one_is_stored(
    queue: Queue, storage: Cable, bad: JobCall, error: type[Exception]
) -> None:
    with pytest.raises(error):
        queue.enqueue_many([*calls(150), bad])
    assert storage.sizes == []


def test_off_and_immediate_run_them_all(new_queue: NewQueue, storage: Cable, ran: list[int]) -> None:
    assert {handle.state for handle in new_queue(IMMEDIATE=True).enqueue_many(calls(3))} == {State.DONE}
    assert ran == [0, 1, 2] and storage.sizes == []


# -- the storage is away ---------------------------------------------------------------------------------------------


def test_behind_a_batch_without_an_answer_nobody_waits(queue: Queue, storage: Cable, spool: Cable) -> None:
    storage.errors = [None, StorageUnavailable("timed out")]
    handles = queue.enqueue_many(calls(350))
    assert storage.sizes == [100, 100] and spool.sizes == [100, 100, 50]
    assert [handle.via for handle in handles] == ["storage"] * 100 + ["spool"] * 250


def test_the_next_call_asks_again(queue: Queue, storage: Cable) -> None:
    storage.errors = [StorageUnavailable("timed out")]
    queue.enqueue_many(calls(2))
    assert queue.enqueue_many(calls(2))[0].via == "storage"


def test_what_was_stored_without_an_answer_is_not_stored_twice(
    queue: Queue, storage: Cable, spool: Cable, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Cable.enqueue_many

    def deaf(self: Cable, *args: Any, **options: Any) -> list[Stored]:
        stored = real(self, *args, **options)
        if self is storage:
            raise StorageUnavailable("timed out")
        return stored

    with monkeypatch.context() as patch:
        patch.setattr(Cable, "enqueue_many", deaf)
        ids = {handle.id for handle in queue.enqueue_many(calls(20))}
    assert len(spool.names_of()) == 20
    assert queue.enqueuer.mover is not None and queue.enqueuer.mover.move() == 20
    assert {record.id for record in storage.page(State.QUEUED).records} == ids and not spool.names_of()


def test_without_a_worker_beside_the_spool_only_what_has_a_deadline_runs_in_the_request(
    queue: Queue, storage: Cable, ran: list[int]
) -> None:
    storage.errors = [StorageUnavailable("timed out")]
    handles = queue.enqueue_many([JobCall("news.send", [1]), JobCall("code.send", [2]), JobCall("news.send", [3])])
    assert [handle.via for handle in handles] == ["spool", "direct", "spool"] and ran == [2]


def test_what_nobody_takes_is_told_with_what_was_stored(new_queue: NewQueue, storage: Cable) -> None:
    storage.errors = [None, StorageUnavailable("timed out")]
    with pytest.raises(QueueUnavailable) as caught:
        new_queue(FALLBACK=()).enqueue_many(calls(250))
    stored: Sequence[Handle] = caught.value.stored
    assert {handle.id for handle in stored} == {record.id for record in storage.page(State.QUEUED, limit=500).records}
    assert len(stored) == 100


def test_many_calls_end_in_time_though_the_storage_is_silent(
    new_queue: NewQueue, storage: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def silent(batch: object, *, timeout: float, **options: object) -> list[Stored]:
        waited.append(timeout)
        raise StorageUnavailable("timed out")

    monkeypatch.setattr(storage, "enqueue_many", silent)
    began = base_clock.monotonic()
    new_queue(ENQUEUE_TIMEOUT=0.25).enqueue_many(calls(1000))
    assert waited == [0.25] and base_clock.monotonic() - began < 5


# -- the storage says no ---------------------------------------------------------------------------------------------


def test_a_conflict_refuses_its_batch_and_tells_what_was_stored(queue: Queue, storage: Cable) -> None:
    with pytest.raises(KeyConflict) as caught:
        queue.enqueue_many([*calls(150), *calls(2, key="same", on_conflict="error")])
    assert len(caught.value.stored) == 100 == len(storage.names_of())


def test_what_the_storage_refuses_runs_in_the_request_and_the_others_are_stored(
    queue: Queue, storage: Cable, ran: list[int]
) -> None:
    storage.errors = [InstanceRefused("too large"), None, InstanceRefused("too large")]
    assert [handle.via for handle in queue.enqueue_many(calls(3))] == ["storage", "direct", "storage"]
    assert ran == [1]


def test_a_refused_batch_stores_nothing_where_nothing_runs_in_the_request(new_queue: NewQueue, storage: Cable) -> None:
    storage.errors = [InstanceRefused("too large")]
    with pytest.raises(InstanceRefused):
        new_queue(FALLBACK=("spool",)).enqueue_many(calls(3))
    assert storage.names_of() == []


def test_without_a_worker_what_has_a_deadline_runs_in_the_request(
    new_queue: NewQueue, storage: Cable, ran: list[int]
) -> None:
    handles = new_queue(WITHOUT_WORKER="direct").enqueue_many([*calls(1), *calls(2, "code.send")])
    assert [handle.via for handle in handles] == ["storage", "direct", "direct"] and ran == [0, 1]


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_no_more_wait_than_the_bound_allows(new_queue: NewQueue, ran: list[int]) -> None:
    queue = new_queue(BOUNDS={"news.send": {"waiting": 5}})
    handles = queue.enqueue_many([*calls(4), *calls(2, "code.send"), *calls(4)])
    assert [handle.via for handle in handles] == ["storage"] * 7 + ["direct"] * 3 and ran == [1, 2, 3]


def test_a_bound_that_refuses_refuses_the_batch(new_queue: NewQueue, storage: Cable) -> None:
    queue = new_queue(BOUNDS={"news.send": {"waiting": 3, "full": "refuse"}})
    with pytest.raises(QueueFull) as caught:
        queue.enqueue_many([*calls(3), *calls(1, "code.send"), *calls(2)])
    assert len(caught.value.stored) == len(storage.names_of()) == 4
    with pytest.raises(QueueFull):
        queue.enqueue_many([*calls(1, "code.send"), *calls(1)])
    assert len(storage.names_of()) == 4


def test_a_bound_drops_the_least_urgent(new_queue: NewQueue, storage: Cable) -> None:
    queue = new_queue(BOUNDS={"news.send": {"waiting": 2, "full": "drop"}})
    handles = queue.enqueue_many([*calls(2), *calls(2, priority=5)])
    assert [handle.via for handle in handles] == ["storage"] * 4
    assert [record.priority for record in storage.page(State.QUEUED).records] == [5, 5]
