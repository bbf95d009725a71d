"""What may wait is bounded, with a stated answer to what comes beyond."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pijobs import Job, State
from pijobs.errors import QueueFull, SettingsError, StorageUnavailable
from pijobs.observe.readiness import readiness
from pijobs.observe.sentences import sentences
from pijobs.observe.status import overview
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.bounds import RARELY, Bound, Bounds
from pijobs.request.queue import Queue
from pijobs.settings import CORE_SETTINGS, PREFIX, validate
from pijobs.storage.contract import Storage
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import NewInstance
from pijobs.testing.clock import ManualClock

NewQueue = Callable[..., Queue]


@pytest.fixture
def storage(clock: ManualClock) -> MemoryStorage:
    return MemoryStorage("main", clock=clock)


@pytest.fixture
def new_queue(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewQueue:
    """A queue with a job ``news.send`` of priority 0; it looks at each call."""
    monkeypatch.setattr("pijobs.request.bounds.OFTEN", 0.0)
    monkeypatch.setattr("pijobs.request.bounds.RARELY", 0.0)

    def new(spool: Storage | None = None, **bound: Any) -> Queue:
        values = {"SECRET_KEY": "s", PREFIX + "BOUNDS": {"news.send": bound}}
        jobs = Registry.of([Job("news.send", lambda: None), Job("otp.send", lambda: None)])
        settings = validate(values, CORE_SETTINGS, directory=tmp_path)
        return Queue(settings, jobs, Plugins([]), storage=storage, spool=spool)

    return new


def test_beyond_the_bound_a_call_runs_in_the_request(new_queue: NewQueue, storage: Storage) -> None:
    queue = new_queue(waiting=3)
    found = [queue.enqueue("news.send").via for _ in range(5)]
    assert found == ["storage"] * 3 + ["direct"] * 2
    assert queue.outage.since is None
    assert any("way=full" in name for name in storage.totals())


def test_another_job_has_room_all_the_same(new_queue: NewQueue) -> None:
    queue = new_queue(waiting=1)
    queue.enqueue("news.send")
    assert [queue.enqueue("otp.send").via for _ in range(3)] == ["storage"] * 3


def test_it_can_be_refused(new_queue: NewQueue, storage: Storage) -> None:
    queue = new_queue(waiting=1, full="refuse")
    queue.enqueue("news.send")
    with pytest.raises(QueueFull, match=r"'news\.send' is refused: 1 instances wait, which is its bound; see PI_JOB"):
        queue.enqueue("news.send")
    assert storage.depths().counts == {("news.send", State.QUEUED): 1}


def test_what_is_less_urgent_than_usual_can_be_dropped(new_queue: NewQueue, storage: Storage) -> None:
    queue = new_queue(waiting=1, full="drop")
    queue.enqueue("news.send", priority=-5)
    low, usual = queue.enqueue("news.send", priority=-5), queue.enqueue("news.send")
    assert (low.via, low.state, usual.via) == ("dropped", State.CANCELLED, "storage")
    record = storage.get(low.id)
    assert (record.state, record.has_body) == (State.CANCELLED, False)
    assert record.reason == low.reason == "dropped, because its priority is low: 1 instances wait, which is its bound"


def test_what_waits_and_is_less_urgent_makes_room(
    new_queue: NewQueue, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pijobs.request.bounds")
    queue = new_queue(waiting=3, full="drop")
    older, newer = (queue.enqueue("news.send", priority=-5).id for _ in range(2))
    queue.enqueue("news.send")
    urgent = [queue.enqueue("news.send", priority=9).via for _ in range(3)]
    assert urgent == ["storage"] * 3, "the two of priority -5 made room, and then the one of priority 0"
    assert {storage.get(id).state for id in (older, newer)} == {State.CANCELLED}
    reason = "dropped for a more urgent one: 3 instances wait, which is its bound"
    assert storage.get(newer).reason == reason and f"job news.send {newer}: -> cancelled ({reason})" in caplog.text
    assert queue.enqueue("news.send", priority=9).via == "direct", "nothing that waits is less urgent"
    assert storage.depths().counts == {
        ("news.send", State.QUEUED): 3,
        ("news.send", State.CANCELLED): 3,
        ("news.send", State.DONE): 1,
    }
    queue.metrics.flush(storage.add_totals)
    assert [value for name, value in storage.totals().items() if "way=dropped" in name] == [3.0]


def test_the_oldest_may_be_too_old(new_queue: NewQueue, clock: ManualClock) -> None:
    queue = new_queue(age=60)
    queue.enqueue("news.send")
    clock.advance(60)
    assert queue.enqueue("news.send").via == "storage"
    clock.advance(1)
    queue.enqueue("news.send")
    assert queue.enqueue("news.send").via == "direct"


def test_there_is_room_again_when_something_was_done(new_queue: NewQueue, storage: Storage) -> None:
    queue = new_queue(waiting=1)
    first = queue.enqueue("news.send")
    assert queue.enqueue("news.send").via == "direct"
    storage.cancel(first.id, reason="")
    assert queue.enqueue("news.send").via == "storage"


def test_the_spool_has_the_same_bound(
    new_queue: NewQueue, storage: Storage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = MemoryStorage("spool", clock=clock)

    def away(*args: object, **options: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(storage, "enqueue_many", away)
    queue = new_queue(spool, waiting=2)
    assert [queue.enqueue("news.send").via for _ in range(4)] == ["spool", "spool", "direct", "direct"]


def test_a_bound_that_is_reached_is_told(new_queue: NewQueue, storage: MemoryStorage) -> None:
    queue = new_queue(waiting=2)
    storage.open_session(SessionInfo("w", "host", 1, storage.now(), "1"), lease=60_000)
    for _ in range(2):
        queue.enqueue("news.send")
    answer = overview(queue)
    told = "job news.send: 2 instances wait, which is its bound; further calls run in the request"
    assert told in sentences(answer)
    checks = dict(readiness(queue, answer))
    assert checks["bounds"].message == told
    storage.cancel(storage.page(State.QUEUED).records[0].id, reason="")
    assert dict(readiness(queue))["bounds"].message == "no job has reached its limit of waiting instances"


def test_an_enqueue_looks_seldom_as_long_as_there_is_much_room(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def waiting(name: str, **options: object) -> tuple[int, int | None]:
        looks.append(name)
        return len(looks) * 40, None

    monkeypatch.setattr(storage, "waiting", waiting)
    moment = [0.0]
    monkeypatch.setattr("pijobs.base.clock.monotonic", lambda: moment[0])
    bounds = Bounds(storage, {"*": {"waiting": 100}}, 0.25)
    for moment[0] in (1.0, 1.5, 2.5, RARELY):
        bounds.stored("news.send")
    assert len(looks) == 1
    for moment[0] in (RARELY + 1, RARELY + 1.5, RARELY + 2.1):
        bounds.stored("news.send")
    assert len(looks) == 3 and bounds.reached("news.send")


def test_a_process_that_stores_many_in_a_moment_does_not_pass_the_bound(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pijobs.base.clock.monotonic", lambda: 1.0)
    bounds, looks = Bounds(storage, {"*": {"waiting": 100}}, 0.25), list[str]()
    count = storage.waiting

    def waiting(name: str, **how: Any) -> tuple[int, int | None]:
        looks.append(name)
        return count(name, **how)

    monkeypatch.setattr(storage, "waiting", waiting)
    while bounds.reached("news.send") is None:
        storage.enqueue(NewInstance(uuid4().hex, "news.send", b"e", b"b", "news.send"), timeout=1)
        bounds.stored("news.send")
    assert storage.depths().counts == {("news.send", State.QUEUED): 100}
    assert len(looks) == 2


def test_a_job_without_a_bound_is_never_looked_at(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "waiting", lambda *args, **options: pytest.fail("a look"))
    bounds = Bounds(storage, {"news.send": {"waiting": 1}}, 0.25)
    for _ in range(3):
        bounds.stored("otp.send")
    assert bounds.reached("otp.send") is None


def test_a_look_that_gets_no_answer_fails_no_enqueue(
    new_queue: NewQueue, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(name: str, **options: object) -> tuple[int, int | None]:
        raise StorageUnavailable

    monkeypatch.setattr(storage, "waiting", away)
    assert new_queue(waiting=1).enqueue("news.send").via == "storage"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"*": {"waiting": 5}}, Bound(5)),
        ({"*": {"waiting": 5}, "a.b": {"age": 3, "full": "drop"}}, Bound(None, 3, "drop")),
        ({"*": {"waiting": 5}, "a.b": {}}, None),
    ],
)
def test_the_bound_of_a_job_wins_over_that_of_all(settings: Any, expected: Bound | None) -> None:
    assert Bound.of(settings, "a.b") == expected


WRONG = [{"*": 5}, {"*": {"waiting": 0}}, {"a.b": {"full": "spool"}}, {"a.b": {"depth": 5}}, {"a.b": {"age": -1}}, []]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_bound_that_can_not_be_is_refused(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="PI_JOB_QUEUE_BOUNDS: expected"):
        validate({PREFIX + "BOUNDS": wrong}, CORE_SETTINGS, directory=tmp_path)
