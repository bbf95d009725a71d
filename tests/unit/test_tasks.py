"""huey in truth: the jobs are huey's tasks, and huey's signals and hooks say what happened."""

from __future__ import annotations

import datetime as dt
import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huey
import pytest
from huey import signals
from huey.exceptions import CancelExecution

from pijobs import HueyQueue, State
from pijobs.payload.codec import open_envelope
from pijobs.request.tasks import UNSUPPORTED, JobHuey
from pijobs.testing import ManualClock, SwitchedStorage, drain, in_memory

from .conftest import AddModule

PLUGIN = """
from pijobs import FailJob, Job, JobContext, RetryJob, RetryPolicy, crontab, hookimpl
import functools
import logging

def good(ctx: JobContext, x: int = 1) -> int:
    return x + 1

def bad() -> None:
    raise ValueError("no")

def again(ctx: JobContext) -> None:
    if ctx.attempt == 1:
        raise RetryJob(delay=5)

def late(ctx: JobContext) -> None:
    raise FailJob("too much")

def nightly() -> None: ...

@hookimpl
def register_jobs():
    once = RetryPolicy(max_attempts=1)
    return [Job("t.good", good), Job("t.bad", bad, retry=once), Job("t.again", again), Job("t.fail", late),
            Job("t.partly", functools.partial(good, x=3)), Job("t.nightly", nightly, schedule=crontab(hour="3"))]
"""
HOOKS = Path(__file__).parents[2] / "docs/reference/huey.md"


@pytest.fixture
def queue(add_module: AddModule) -> HueyQueue:
    name = add_module("task_plugin", PLUGIN)
    return HueyQueue({"url": "memory://", "plugins": [name], "name": "my-queue"}, host={"SECRET_KEY": "k"})


@pytest.fixture
def storage(queue: HueyQueue) -> SwitchedStorage:
    return in_memory(queue, ManualClock(time.time()))


@pytest.fixture
def seen(queue: HueyQueue) -> list[tuple[Any, ...]]:
    """Each signal, as huey sends it."""
    told: list[tuple[Any, ...]] = []

    @queue.huey.signal()  # type: ignore[untyped-decorator]
    def receiver(signal: str, task: Any, error: BaseException | None = None) -> None:
        told.append((signal, task.name, task.id, *((type(error).__name__,) if error else ())))

    return told


def ran(queue: HueyQueue, seen: list[tuple[Any, ...]], name: str, **options: Any) -> list[tuple[Any, ...]]:
    """The signals of one job, without its name and id."""
    handle = queue.enqueue(name, **options)
    storage = queue.storage
    assert isinstance(storage, SwitchedStorage) and isinstance(storage._clock, ManualClock)
    drain(queue, clock=storage._clock)
    assert {(entry[1], entry[2]) for entry in seen} == {(name, handle.id)}
    return [(entry[0], *entry[3:]) for entry in seen]


def test_the_registry_holds_the_jobs_under_their_names_and_modules(queue: HueyQueue) -> None:
    found = queue.huey
    assert isinstance(found, huey.Huey) and found is queue.huey and found.name == "my-queue"
    names = {"good", "bad", "again", "fail", "partly", "nightly"}
    assert set(found._registry._registry) == {f"task_plugin.t.{name}" for name in names}
    assert [task.name for task in found._registry.periodic_tasks] == ["t.nightly"]
    (nightly,) = found._registry.periodic_tasks
    assert nightly.validate_datetime(dt.datetime(2026, 1, 1, 3)) and not nightly.validate_datetime(
        dt.datetime(2026, 1, 1)
    )


def test_programs_for_privacyidea_s_class_find_what_they_ask_for(queue: HueyQueue) -> None:
    assert isinstance(queue.huey, huey.RedisHuey) and not queue.huey.store_none and not queue.huey.immediate


def test_a_job_that_is_registered_later_is_a_task_too(queue: HueyQueue) -> None:
    queue.huey  # noqa: B018 - made before
    queue.register_job("t.more", len)
    assert queue.huey._registry.string_to_task("builtins.t.more")


def test_a_job_that_is_done_is_complete_and_only_then(
    queue: HueyQueue, storage: SwitchedStorage, seen: list[Any]
) -> None:
    assert ran(queue, seen, "t.good") == [("enqueued",), ("executing",), ("complete",)]


@pytest.mark.parametrize(
    ("name", "signals"),
    [
        ("t.bad", [("enqueued",), ("executing",), ("error", "ValueError")]),
        ("t.fail", [("enqueued",), ("executing",), ("error", "FailJob")]),
        ("t.again", [("enqueued",), ("executing",), ("retrying",), ("executing",), ("complete",)]),
    ],
)
def test_what_fails_says_so(
    queue: HueyQueue, storage: SwitchedStorage, seen: list[Any], name: str, signals: list[Any]
) -> None:
    assert ran(queue, seen, name) == signals


def test_what_expires_says_so(queue: HueyQueue, storage: SwitchedStorage, seen: list[Any]) -> None:
    assert ran(queue, seen, "t.again", expires=3) == [("enqueued",), ("executing",), ("expired",)]
    seen.clear()
    assert ran(queue, seen, "t.good", expires=3, delay=10)[-1] == ("expired",)


def test_the_hooks_get_arguments_value_and_exception(queue: HueyQueue, storage: SwitchedStorage) -> None:
    told: list[Any] = []

    @queue.huey.pre_execute()  # type: ignore[untyped-decorator]
    def before(task: Any) -> None:
        told.append((task.name, task.args, task.kwargs))

    @queue.huey.post_execute()  # type: ignore[untyped-decorator]
    def after(task: Any, value: Any, error: BaseException | None) -> None:
        told.append((value, repr(error)))

    queue.enqueue("t.good", [4])
    queue.enqueue("t.good", kwargs={"x": 6})
    queue.enqueue("t.bad")
    drain(queue)
    assert told == [
        ("t.good", (4,), {}), (5, "None"), ("t.good", (), {"x": 6}), (7, "None"),
        ("t.bad", (), {}), (None, "ValueError('no')"),
    ]  # fmt: skip


def fail(*_: Any) -> None:
    raise OSError("the hook is broken")


@pytest.mark.parametrize("hook", ["pre_execute", "post_execute", "signal"])
def test_a_hook_that_fails_changes_nothing(queue: HueyQueue, storage: SwitchedStorage, hook: str) -> None:
    getattr(queue.huey, hook)()(fail)
    handle = queue.enqueue("t.good")
    drain(queue)
    assert storage.get(handle.id).state is State.DONE


@pytest.mark.parametrize(("retry", "state"), [(None, State.DEAD), (False, State.DEAD), (True, State.SCHEDULED)])
def test_a_hook_may_cancel(
    queue: HueyQueue, storage: SwitchedStorage, seen: list[Any], retry: bool | None, state: State
) -> None:
    @queue.huey.pre_execute()  # type: ignore[untyped-decorator]
    def cancel(task: Any) -> None:
        raise CancelExecution(retry=retry)

    handle = queue.enqueue("t.good")
    drain(queue)
    record = storage.get(handle.id)
    assert (
        record.state is state
        and record.attempts == 1
        and "a pre_execute hook of huey cancelled it" in str(record.reason)
    )
    assert (signals.SIGNAL_CANCELED, "t.good", handle.id) in seen


# -- tasks enqueue their job -----------------------------------------------------------------------------------------


def test_a_task_enqueues_its_job(queue: HueyQueue, storage: SwitchedStorage) -> None:
    kind = queue.huey._registry.string_to_task("task_plugin.t.good")
    eta = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None) + dt.timedelta(hours=1)
    task = kind(kwargs={"x": 6}, eta=eta, priority=7, expires=dt.timedelta(hours=2))
    handle = queue.huey.enqueue(task)
    record = storage.get(handle.id)
    assert (task.id, record.state, record.priority) == (handle.id, State.SCHEDULED, 7)
    assert abs(record.due - storage.now() - 3600_000) < 60_000
    deadline = open_envelope(record.envelope).deadline
    assert deadline is not None and abs(deadline - storage.now() - 7200_000) < 60_000


@pytest.mark.parametrize("chained", [lambda task: task.then(task), lambda task: huey.group([task])])
def test_pipelines_are_refused(queue: HueyQueue, chained: Callable[[Any], Any]) -> None:
    task = queue.huey._registry.string_to_task("task_plugin.t.good")()
    with pytest.raises(NotImplementedError, match="pipelines, groups and chords"):
        queue.huey.enqueue(chained(task))


@pytest.mark.parametrize("name", [name for names, *_ in UNSUPPORTED for name in names.split()])
def test_what_is_not_supported_says_so_here_and_in_the_docs(queue: HueyQueue, name: str) -> None:
    with pytest.raises(NotImplementedError, match=r"pijobs does not support .* of huey: "):
        getattr(queue.huey, name)("x")
    assert hasattr(huey.Huey, name) and f"`{name}`" in HOOKS.read_text()


def test_the_docs_tell_what_to_do_instead() -> None:
    text = HOOKS.read_text()
    assert [what for _, what, instead in UNSUPPORTED if f"| {what} |" not in text or instead not in text] == []


def test_a_worker_s_engine_is_the_huey_and_keeps_what_was_given_before(queue: HueyQueue, seen: list[Any]) -> None:
    import flask

    from pijobs.factory import Installation
    from pijobs.worker.main import WorkerOptions, make_engine

    before = queue.huey
    installation = Installation(queue.settings, queue.plugins, queue.registry, queue)
    engine = make_engine(installation, flask.Flask("x"), WorkerOptions())
    assert queue.huey is engine and isinstance(engine, JobHuey) and engine._signal is before._signal
    assert set(engine._registry._registry) == set(before._registry._registry)


def test_functions_of_all_kinds_have_a_module() -> None:
    class Callee:
        def __call__(self) -> None: ...

    queue = HueyQueue({"url": "memory://", "plugins": []}, host={"SECRET_KEY": "k"})
    kinds: list[Callable[..., Any]] = [len, functools.partial(print), Callee(), Callee().__call__, "".join]
    for number, function in enumerate(kinds):
        queue.register_job(f"kind.n{number}", function)
    assert len(queue.huey._registry._registry) == len(kinds)


def test_no_handler_of_the_log_reaches_huey_s_own_threads(queue: HueyQueue) -> None:
    import flask

    from pijobs.factory import Installation
    from pijobs.worker.main import WorkerOptions, make_consumer

    make_consumer(
        Installation(queue.settings, queue.plugins, queue.registry, queue), flask.Flask("x"), WorkerOptions(workers=1)
    )
    for name in ("pijobs.job", "pijobs.worker.session", "huey", "huey.consumer", "huey.consumer.Worker"):
        assert "handle" in vars(logging.getLogger(name)), name
