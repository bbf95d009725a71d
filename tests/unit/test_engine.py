"""The worker's own end of an attempt: whatever fails there, the attempt has ended once, and counts."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import flask
import msgspec
import pytest

from pijobs import JobContext, Limits, State
from pijobs.factory import OWN_CLASS, Installation, build
from pijobs.observe.instances import instance
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record
from pijobs.storage.values import End, NewInstance, OnConflict
from pijobs.testing import ManualClock, SwitchedStorage, drain, in_memory
from pijobs.worker import attempts, engine, leasing
from pijobs.worker.destinations import Destinations
from pijobs.worker.main import WorkerOptions, make_engine
from pijobs.worker.replays import Done
from pijobs.worker.session import Session
from pijobs.worker.slots import Slot

from .conftest import AddModule

PLUGIN = """
from pijobs import DestinationDown, Job, JobContext, Limits, RetryPolicy, hookimpl
from pijobs.errors import AttemptDeferred

ran = []
act = None
hooks = {}

def work(ctx: JobContext, name: str = "") -> None:
    ran.append(name)
    if act is not None:
        act(ctx)

@hookimpl
def job_started(event):
    hooks.get("started", print)(event.id)

@hookimpl
def job_finished(event):
    hooks.get("finished", print)(event.id)

@hookimpl
def register_jobs():
    policy = RetryPolicy(max_attempts=3, delay=5, jitter=0)
    return [
        Job("unit.work", work, retry=policy, group=lambda name="": "somewhere", limits=Limits(concurrency=3)),
        Job("unit.short", work),
        Job("unit.other", work),
    ]
"""


class Site:
    """One queue in memory, whose job does what a test says."""

    def __init__(self, queue: Queue, clock: ManualClock, module: Any) -> None:
        self.queue, self.clock, self.module = queue, clock, module
        self.storage: SwitchedStorage = in_memory(queue, clock)
        self.id = queue.enqueue("unit.work").id

    def drain(self, *, turns: bool = False) -> None:
        drain(self.queue, clock=self.clock if turns else None)

    @property
    def record(self) -> Record:
        return self.storage.get(self.id)

    @property
    def runs(self) -> int:
        return len(self.module.ran)


@pytest.fixture
def site(add_module: AddModule, tmp_path: Path) -> Site:
    module = __import__(add_module("engine_plugin", PLUGIN))
    settings = {"SECRET_KEY": "k", "PI_JOB_QUEUE_CLASS": OWN_CLASS, "PI_JOB_QUEUE_URL": "memory://",
                "PI_JOB_QUEUE_PLUGINS": ["engine_plugin"]}  # fmt: skip
    return Site(build(settings, directory=tmp_path).queue, ManualClock(), module)


def fail(*_: Any, **__: Any) -> Any:
    raise ValueError("nobody thought of this")


def leave(*_: Any, **__: Any) -> Any:
    raise SystemExit(3)


class Loud(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("the log host is away")


@pytest.fixture
def loggers() -> Iterator[Callable[..., None]]:
    """Break the log; mended at the end."""
    root, ours = logging.getLogger(), logging.getLogger("pijobs.job")
    handler = Loud()

    def spoil(record: logging.LogRecord) -> bool:
        return bool(record.tenant)  # type: ignore[attr-defined]

    def broken() -> None:
        root.addHandler(handler)
        ours.addFilter(spoil)

    yield broken
    root.removeHandler(handler)
    ours.removeFilter(spoil)


@pytest.mark.parametrize(
    ("what", "failing"),
    [
        *((what, failing) for what in ("hook started", "hook finished", "metrics attempt", "metrics failed")
          for failing in (fail, leave)),
        ("destinations ended", fail),
        ("log", fail),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_told_of_an_attempt_does_not_change_how_it_ends(
    site: Site, what: str, fails: bool, failing: Any, loggers: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, _, name = what.partition(" ")
    if place == "hook":
        site.module.hooks[name] = failing
    elif place == "metrics":
        monkeypatch.setattr(site.queue.metrics, name, failing)
    elif place == "destinations":
        monkeypatch.setattr(Destinations, name, failing)
    else:
        loggers()
    site.module.act = fail if fails else None
    site.drain()
    assert (site.record.state, site.record.attempts) == (State.SCHEDULED if fails else State.DONE, 1)
    assert site.runs == 1


@pytest.mark.parametrize("policy", ["junk", "[1]", '{"limit": "x"}', '{"limit": -1}', "\x00"])
def test_a_damaged_record_of_the_group_costs_no_more_than_a_late_reaction(site: Site, policy: str) -> None:
    record = site.storage.group("somewhere")
    assert record is not None
    site.storage.set_group("somewhere", version=record.version, limit=2, blocked_until=None, policy=policy)
    site.module.act = lambda ctx: ctx.limit("somewhere", Limits(concurrency=1))
    site.drain()
    assert (site.record.state, site.record.attempts, site.runs) == (State.DONE, 1, 1)


def test_a_job_that_interrupts_itself_has_failed(site: Site) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    site.module.act = interrupt
    site.drain(turns=True)
    assert (site.record.state, site.record.attempts, site.runs) == (State.DEAD, 3, 3)


def held_back(_: Any) -> None:
    from pijobs.errors import AttemptDeferred

    raise AttemptDeferred("not today")


def test_what_is_held_back_waits_a_second_and_not_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "HELD_BACK_RETURNS", 7)
    began, site.module.act = site.clock.time(), held_back
    site.drain(turns=True)
    assert (site.record.state, site.record.attempts, site.runs) == (State.DEAD, 0, 8)
    assert site.record.reason == "given back 7 times without an attempt that counts; last: not today"
    assert site.clock.time() - began >= 7


def test_an_instance_that_nobody_thought_of_waits_and_comes_to_an_end(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.queue.registry, "fitting", fail)
    began = site.clock.time()
    site.drain(turns=True)
    assert site.record.state is State.DEAD and site.runs == 0
    assert (site.record.reason or "").startswith(f"given back {attempts.RETURNS} times without an attempt that counts")
    assert site.clock.time() - began >= attempts.RETURNS


@pytest.mark.parametrize("bare", [True, False])
def test_an_end_that_the_storage_can_not_take_keeps_nobody(
    site: Site, bare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = site.queue.enqueue("unit.work", kwargs={"name": "other"}).id
    step = Session.step

    def refusing(session: Session, ends: list[End], **options: Any) -> Any:
        if any(end.id == site.id and (end.entry is not None or not bare) for end in ends):
            raise OverflowError("a number is too large for SQL")
        return step(session, ends, **options)

    monkeypatch.setattr(Session, "step", refusing)
    site.drain()
    assert site.storage.get(other).state is State.DONE
    if bare:
        assert (site.record.state, site.record.attempts, site.runs) == (State.DONE, 1, 2)
    else:  # given up: it counts as a crash
        assert site.record.crashes == 1
        assert json.loads(site.record.history[-1])["event"] == "crashed"


def test_only_a_stopping_worker_gives_back_uncounted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class Flag:
        def is_set(self) -> bool:
            return site.runs > 0

        def wait(self, timeout: float | None = None) -> bool:
            return True

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.Engine, "stop_flag", Flag(), raising=False)
    enter = engine.Engine.enter

    def entered(self: engine.Engine, floor: int | None) -> None:
        self.stop_flag = Flag()
        enter(self, floor)

    monkeypatch.setattr(engine.Engine, "enter", entered)
    # The queue stands still after the first run: what was given back waits for another worker.
    site.module.act = interrupt
    worker: Storage = site.storage
    lease = worker.step
    monkeypatch.setattr(
        site.storage, "step", lambda *args, want, **more: lease(*args, want=want if site.runs == 0 else 0, **more)
    )
    site.drain()
    assert (site.record.state, site.record.attempts, site.record.crashes) == (State.QUEUED, 0, 0)
    assert site.record.reason == "given back at shutdown" and site.runs == 1


# -- one bad job of a destination ------------------------------------------------------------------------------------


def down(*names: str) -> Callable[[Any], None]:
    from pijobs import DestinationDown

    def act(ctx: Any) -> None:
        if not names or (ctx.log and site_name(ctx) in names):
            raise DestinationDown("it looks down")

    return act


def site_name(ctx: Any) -> str:
    import engine_plugin  # type: ignore[import-not-found]

    return str(engine_plugin.ran[-1])


@pytest.mark.parametrize("bad", [1, 2, 5])
@pytest.mark.parametrize("expires", [None, 600])
def test_jobs_that_make_their_destination_look_down_do_not_hold_back_the_others(
    site: Site, bad: int, expires: float | None
) -> None:
    site.storage.cancel(site.id, reason="not this time")
    names = [f"bad {number}" for number in range(bad)]
    site.module.act = down(*names)
    for name in names:
        site.queue.enqueue("unit.work", kwargs={"name": name}, expires=expires)
    good = [site.queue.enqueue("unit.work", kwargs={"name": f"good {number}"}).id for number in range(5)]
    began = site.clock.time()

    class Enough(Exception):
        pass

    advance = site.clock.advance

    def bounded(seconds: float) -> None:
        states = {site.storage.get(one).state for one in good}
        assert site.clock.time() - began < 300, states
        if states == {State.DONE}:
            raise Enough
        advance(seconds)

    site.clock.advance = bounded  # type: ignore[method-assign]
    with pytest.raises(Enough):
        site.drain(turns=True)


def test_an_instance_without_a_deadline_that_never_counts_ends_by_its_age(site: Site) -> None:
    site.storage.cancel(site.id, reason="not this time")
    site.queue.settings = site.queue.settings.replaced({"PI_JOB_QUEUE_MAX_AGE": 3600})
    site.id, began = site.queue.enqueue("unit.work").id, site.clock.time()
    site.module.act = down()
    site.drain(turns=True)
    assert site.record.state is State.EXPIRED and site.record.attempts == 0
    assert 3600 - 400 < site.clock.time() - began < 3600 + 400
    assert site.runs < 80
    assert instance(site.record, site.storage.now())["reason"] == "it was older than PI_JOB_QUEUE_MAX_AGE allows"


def test_the_spool_comes_first_only_for_a_slot_whose_storage_has_answered() -> None:
    worker: Any = object.__new__(engine.Engine)
    worker.sessions, worker.queue = ("storage", "spool"), Mock()
    slot = Slot(looked_round=0.0)
    assert [session for session, _ in worker._in_turn(slot)] == ["storage", "spool"]
    slot.storage_answers = True
    assert [session for session, _ in worker._in_turn(slot)] == ["spool", "storage"]
    worker.queue.move_from_spool.assert_called_once_with()


def test_a_job_of_unknown_length_keeps_nothing_from_its_end_and_nothing_waiting(site: Site) -> None:
    for _ in range(30):  # the slot learns that this job is short, and leases many at once
        site.queue.enqueue("unit.short")
    before = site.queue.enqueue("unit.short").id
    site.queue.enqueue("unit.other", kwargs={"name": "long"})
    behind = [site.queue.enqueue("unit.short").id for _ in range(3)]
    seen: list[State] = []

    def look(context: JobContext) -> None:
        if context.name == "unit.other":
            seen.extend(site.storage.get(one).state for one in (before, *behind))

    site.module.act = look
    site.drain()
    assert seen == [State.DONE, *[State.QUEUED] * len(behind)]
    assert all(site.storage.get(one).state is State.DONE for one in behind)


# -- what was done does not run again ----------------------------------------------------------------------------------


def put_back(site: Site, done: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write to the storage puts back what was done, envelope and body as they were."""
    kept: dict[str, NewInstance] = {}
    enqueue_many = site.storage.enqueue_many

    def keeping(batch: Sequence[tuple[NewInstance, OnConflict]], **options: Any) -> Any:
        kept.update({new.id: new for new, _ in batch})
        return enqueue_many(batch, **options)

    monkeypatch.setattr(site.storage, "enqueue_many", keeping)
    victim = site.queue.enqueue("unit.work", kwargs={"name": "victim"}, priority=9).id

    def act(ctx: JobContext) -> None:
        if ctx.id == site.id and site.storage.get(victim).state is State.DONE:
            site.storage.remove(victim)
            enqueue_many([(kept[victim], "replace")], timeout=1)

    site.module.act = act
    site.drain()
    record = site.storage.get(victim)
    assert site.module.ran.count("victim") == 1 and record.state is State.DONE
    assert "it was done before and did not run again" in (record.reason or "")
    assert json.loads(record.history[-1])["event"] == "replayed"


def test_an_instance_that_was_done_and_put_back_does_not_run_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put_back(site, site.id, monkeypatch)
    assert "did not run again" in caplog.text
    totals: dict[str, float] = {}
    site.queue.metrics.flush(totals.update)
    told = {**site.storage.totals(), **totals}
    assert [value for name, value in told.items() if "replayed" in name] == [1]


def test_what_a_process_did_is_remembered_within_a_bound() -> None:
    done = Done(most=3)
    for number in range(5):
        done.add(str(number))
    assert len(done) == 3 and done.has("4", 0) and not done.has("1", 0)


def test_an_instance_that_another_process_did_does_not_run_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module("pijobs.definitions")  # as a plugin with definitions does
    (tmp_path / "pijobs.sqlite").touch()
    kept: list[NewInstance] = []
    enqueue_many = site.storage.enqueue_many

    def keeping(batch: Sequence[tuple[NewInstance, OnConflict]], **options: Any) -> Any:
        kept.extend(new for new, _ in batch)
        return enqueue_many(batch, **options)

    monkeypatch.setattr(site.storage, "enqueue_many", keeping)
    victim = site.queue.enqueue("unit.work", kwargs={"name": "victim"}).id
    site.drain()
    site.storage.remove(victim)
    enqueue_many([(kept[0], "replace")], timeout=1)
    site.clock.advance(10)
    site.drain()  # by a worker of its own
    assert site.module.ran.count("victim") == 1
    record = site.storage.get(victim)
    assert record.state is State.DONE and "it was done before and did not run again" in (record.reason or "")


@pytest.mark.parametrize("why", ["it leaves", "it is stuck"])
def test_what_a_slot_can_not_hand_in_any_more_is_handed_in_by_another(
    site: Site, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "TURN", 0.0)
    queue = site.queue
    installation = Installation(queue.settings, queue.plugins, queue.registry, queue)
    made = make_engine(installation, flask.Flask("worker"), WorkerOptions(workers=1))
    made.enter(None)
    task = made.dequeue()
    assert task is not None
    made.execute(task)
    with site.storage.is_down():
        if why == "it leaves":
            made.leave()
        else:
            made.busy["token"] = made.slot
            made.stuck(site.storage, msgspec.structs.replace(task.leased[1], token="token"))
    made.enter(None)
    made.dequeue()
    assert site.record.state is State.DONE
    made.leave()
    made.close()
