"""How busy the workers are, one of them that is asked to be quiet, and which commit it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import flask
import pytest

from pijobs.base import clock, release
from pijobs.factory import OWN_CLASS, Installation, build
from pijobs.observe.load import load, told_load
from pijobs.storage import protocol
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.sql import SqlStorage
from pijobs.testing import ManualClock, in_memory
from pijobs.worker import leasing
from pijobs.worker.engine import Engine
from pijobs.worker.load import Load
from pijobs.worker.main import WorkerOptions, make_engine

from .conftest import AddModule, Pijobs

PLUGIN = """
from pijobs import job

@job("unit.work")
def work() -> None: ...
"""


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    hand = ManualClock()
    monkeypatch.setattr(clock, "monotonic", hand.time)
    return hand


def test_the_mean_tells_how_many_ran_at_the_same_time_and_how_long(now: ManualClock) -> None:
    found = Load()
    found.sample()
    found.begin("long")
    for _ in range(200):
        found.begin("short")
        now.advance(1.0)
        found.end("short")
        now.advance(1.0)
        found.sample()
    assert (round(found.busy, 2), round(found.took, 3)) == (1.5, 1.0)
    assert found.told() == {"busy": 1500, "took": 1000}
    found.end("long")
    for _ in range(200):
        now.advance(2.5)
        found.sample()
    assert found.told()["busy"] == 0


def worker(**facts: Any) -> dict[str, Any]:
    return {"workers": 4, "busy": 3.0, "took": 0.5, "quiet": None, **facts}


def test_as_many_are_needed_as_are_busy_for_four_fifths_and_empty_what_is_due() -> None:
    assert load([worker()], {"queued": 0}, [], within=60) == {
        "workers": 4, "busy": 3.0, "utilisation": 0.75, "took": 0.5, "backlog": 0.0, "needed": 4,
    }  # fmt: skip
    late = load([worker(), worker(busy=1.0)], {"queued": 1200}, [], within=60)
    assert (late["backlog"], late["needed"]) == (75.0, 15)
    down = {"waiting": 1200, "paused": False, "breaker": "open"}
    assert load([worker()], {"queued": 1200}, [down], within=60)["needed"] == 4
    resting = load([worker(quiet="2026", busy=0.0)], {}, [], within=60)
    assert (resting["workers"], resting["needed"], told_load(resting)) == (0, 1, "all of them quiet")
    assert told_load(load([worker()], {}, [], within=60)) == "75% busy, 4 needed"


@pytest.fixture
def engine(add_module: AddModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Of a queue in memory with one instance; its session gives signs of life when a test says so."""
    __import__(add_module("load_plugin", PLUGIN))
    values = {"SECRET_KEY": "k", "PI_JOB_QUEUE_CLASS": OWN_CLASS, "PI_JOB_QUEUE_URL": "memory://",
              "PI_JOB_QUEUE_PLUGINS": ["load_plugin"]}  # fmt: skip
    queue = build(values, directory=tmp_path).queue
    in_memory(queue)
    queue.enqueue("unit.work")
    installation = Installation(queue.settings, queue.plugins, queue.registry, queue)
    monkeypatch.setattr(leasing, "TURN", 0.0)
    made = make_engine(installation, flask.Flask("worker"), WorkerOptions(workers=1))
    made.enter(None)
    yield made
    made.close()


def test_a_quiet_worker_ends_what_it_has_takes_no_more_and_says_when_it_is_idle(engine: Engine) -> None:
    session, storage = engine.sessions[0], engine.queue.present_storage()
    task = engine.dequeue()
    engine.queue.enqueue("unit.work")
    (record,) = storage.sessions()
    storage.update_session(
        replace(record.info, quiet=storage.now(), definitions="old")
    )  # by somebody who read it before
    engine.load.busy = 0.5  # there is news of its own at the same moment
    session.beat()
    assert engine.is_quiet and engine.dequeue() is None and not engine.facts()["resting"]
    engine.execute(task)
    assert engine.dequeue() is None
    assert engine.facts()["resting"]
    session.beat()
    (record,) = storage.sessions()
    assert record.info.quiet and record.info.resting and record.info.definitions != "old" and not record.running
    storage.update_session(replace(record.info, quiet=0))
    session.beat()
    assert engine.dequeue() is not None


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqlStorage]:
    storage = SqlStorage(f"sqlite:///{tmp_path}/queue.sqlite", "privacyidea")
    for pid in (1, 2):
        info = SessionInfo(f"s{pid}", "jobs1", pid, storage.now(), "1", commit="abc", protocol=protocol.NEWEST)
        storage.open_session(info, lease=60_000)
    yield storage
    storage.close()


def test_the_command_asks_one_host_and_waits_until_it_is_idle(
    storage: SqlStorage, pijobs: Pijobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_seconds: float) -> None:
        for record in storage.sessions():
            storage.update_session(replace(record.info, resting=int(record.info.quiet > 0)))

    monkeypatch.setattr(clock, "sleep", look)
    code, told, _ = pijobs("quiet", "jobs1", "--pid", "1")
    assert code == 0 and "1 worker processes of jobs1 take no more" in told and "jobs1 are idle" in told
    assert [bool(record.info.quiet) for record in storage.sessions()] == [True, False]
    listed = pijobs("workers")[1]
    assert "quiet since" in listed and "version 1 of abc" in listed
    assert "CRITICAL: worker:" not in pijobs("status")[1]
    assert pijobs("quiet", "jobs1")[0] == 0
    assert "all live workers are quiet" in pijobs("status")[1]
    assert pijobs("quiet", "jobs1", "--end")[0] == 0
    assert not any(record.info.quiet for record in storage.sessions())


def test_a_host_without_worker_and_a_time_that_is_over_are_said(storage: SqlStorage, pijobs: Pijobs) -> None:
    code, _, said = pijobs("quiet", "jobs9")
    assert code == 1 and "no live worker of jobs9; hosts with one: jobs1" in said
    code, _, said = pijobs("quiet", "jobs1", "--timeout", "0")
    assert code == 1 and "0 jobs still run" in said


def test_the_end_is_told_again_to_a_worker_that_told_of_itself_at_the_same_moment(
    storage: SqlStorage, pijobs: Pijobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [replace(record.info, quiet=1) for record in storage.sessions()]
    stale = [*before]  # what the worker had read when it wrote
    for info in before:
        storage.update_session(info)
    monkeypatch.setattr(clock, "sleep", lambda _seconds: storage.update_session(stale.pop()) if stale else None)
    assert pijobs("quiet", "jobs1", "--end")[0] == 0 and not stale
    assert not any(record.info.quiet for record in storage.sessions())


def test_a_worker_of_a_release_that_can_not_be_quiet_is_said(storage: SqlStorage, pijobs: Pijobs) -> None:
    storage.update_session(replace(storage.sessions()[0].info, protocol=protocol.FIRST))
    code, _, said = pijobs("quiet", "jobs1", "--timeout", "0")
    assert code == 1 and "1 worker processes of jobs1 are of release 0.1.0" in said
    assert not any(record.info.quiet for record in storage.sessions())


@pytest.mark.parametrize("packed", [False, True])
def test_the_commit_of_a_work_tree_is_read_without_git(tmp_path: Path, packed: bool) -> None:
    git, commit = tmp_path / ".git", "0123456789abcdef0123456789abcdef01234567"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    if packed:
        (git / "packed-refs").write_text(f"# pack-refs\n{commit} refs/heads/main\n")
    else:
        (git / "refs" / "heads" / "main").write_text(f"{commit}\n")
    assert release._of_work_tree(tmp_path) == commit
    (git / "HEAD").write_text(f"{commit[::-1]}\n")
    assert release._of_work_tree(tmp_path) == commit[::-1]
