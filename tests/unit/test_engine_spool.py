"""A worker works from the spool of its machine, but runs nothing from it that the storage has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flask
import pytest

from pijobs import Job, State
from pijobs.errors import InstanceNotFound, StorageUnavailable
from pijobs.factory import Installation
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.calls import JobCall, checked
from pijobs.request.queue import Queue
from pijobs.settings import CORE_SETTINGS, validate
from pijobs.storage.contract import Storage
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.values import End, NewInstance, Step
from pijobs.testing.clock import ManualClock
from pijobs.worker.engine import Engine
from pijobs.worker.leasing import TURN
from pijobs.worker.main import WorkerOptions, make_engine


@pytest.fixture
def storage(clock: ManualClock) -> MemoryStorage:
    return MemoryStorage("main", clock=clock)


@pytest.fixture
def spool(clock: ManualClock) -> MemoryStorage:
    return MemoryStorage("spool", clock=clock)


@pytest.fixture
def effects() -> list[str]:
    return []


@pytest.fixture
def queue(storage: Storage, spool: Storage, effects: list[str], tmp_path: Path) -> Queue:
    settings = validate({"SECRET_KEY": "s"}, CORE_SETTINGS, directory=tmp_path)
    registry = Registry.of([Job("a.b", effects.append)])
    return Queue(settings, registry, Plugins([]), storage=storage, spool=spool)


@pytest.fixture
def engine(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A worker with one slot, in this thread, that never waits."""
    monkeypatch.setattr("pijobs.worker.leasing.TURN", 0.0)
    installation = Installation(queue.settings, queue.plugins, queue.registry, queue)
    engine = make_engine(installation, flask.Flask("worker"), WorkerOptions(workers=1))
    engine.enter(None)
    engine.slot.looked_round += 1000
    yield engine
    engine.leave()
    engine.close()


def spooled(queue: Queue, storage: Storage, text: str) -> NewInstance:
    job, call = checked(queue.registry, "a.b", [text], {})
    new = queue._instance(job, f"id-{text}", call, JobCall("a.b"))
    assert queue.spool is not None
    queue.spool.enqueue(new, timeout=1)
    return new


def turn(engine: Engine) -> None:
    task = engine.dequeue()
    if task is not None:
        engine.execute(task)
        engine.dequeue()


def test_what_the_storage_has_is_not_run_from_the_spool(
    queue: Queue, storage: MemoryStorage, spool: MemoryStorage, engine: Engine, effects: list[str]
) -> None:
    new = spooled(queue, storage, "twice")
    storage.record_end(
        new, End(new.id, "", State.DONE)
    )  # the answer to its enqueue got lost, and another worker ran it
    for _ in range(3):
        turn(engine)
    assert effects == []
    with pytest.raises(InstanceNotFound):
        spool.get(new.id)


def test_a_worker_that_begins_with_the_spool_asks_the_storage_all_the_same(
    queue: Queue, storage: MemoryStorage, engine: Engine, effects: list[str]
) -> None:
    new = spooled(queue, storage, "twice")
    storage.record_end(new, End(new.id, "", State.DONE))
    engine.slot.looked_round -= 2000  # its start took longer than a turn
    turn(engine)
    assert effects == []


def test_what_only_the_spool_has_is_run(
    queue: Queue, storage: MemoryStorage, spool: MemoryStorage, engine: Engine, effects: list[str]
) -> None:
    new = spooled(queue, storage, "once")
    turn(engine)
    assert effects == ["once"] and spool.get(new.id).state is State.DONE


def test_while_the_storage_is_away_nobody_asks_it(
    queue: Queue, storage: MemoryStorage, engine: Engine, effects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object, **options: object) -> Step:
        raise StorageUnavailable

    monkeypatch.setattr(storage, "step", away)
    monkeypatch.setattr(engine.sessions[0], "reachable", False)
    monkeypatch.setattr(storage, "get", lambda id: pytest.fail("a question"))
    spooled(queue, storage, "once")
    turn(engine)
    assert effects == ["once"]


def test_once_a_second_the_worker_moves_what_waits_in_the_spool(
    queue: Queue, storage: MemoryStorage, spool: MemoryStorage, engine: Engine, effects: list[str]
) -> None:
    turn(engine)  # the storage answers
    new = spooled(queue, storage, "moved")
    engine.slot.looked_round -= 2000 + TURN
    assert queue.enqueuer.mover is not None
    queue.enqueuer.mover.look_soon()
    turn(engine)
    assert effects == ["moved"] and storage.get(new.id).state is State.DONE
    assert spool.depths().counts == {}


def test_a_turn_that_follows_a_wait_without_work_waits_at_once(
    engine: Engine, storage: MemoryStorage, queue: Queue, effects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    step = storage.step

    def counted(session: str, ends: Sequence[End], **more: Any) -> Step:
        asked.append(session)
        return step(session, ends, **more)

    monkeypatch.setattr(storage, "step", counted)
    engine.dequeue()
    assert len(asked) == 2
    engine.dequeue()
    assert len(asked) == 3
    queue.enqueue("a.b", ["found all the same"])
    turn(engine)
    assert effects == ["found all the same"]
