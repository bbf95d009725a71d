"""A function is a job, and type checkers know its arguments: mypy complains of each ignore here that is not needed."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import flask
import pytest

import pijobs
from pijobs import FailJob, Job, JobContext, RetryPolicy, State, job, jobs_in
from pijobs.errors import ConfigurationError, DeadlinePassed, EncodeError
from pijobs.flask import JobQueue
from pijobs.plugins.loading import Plugins
from pijobs.request.queue import Queue
from pijobs.settings import CORE_SETTINGS, validate
from pijobs.testing import ManualClock, assert_enqueued, drain, in_memory

from .conftest import AddModule


@job("kit.build", expires=60, retry=RetryPolicy(max_attempts=1), group=lambda customer, **_: f"kit.{customer}")
def build(ctx: JobContext, customer: str, *, pages: int = 1) -> str:
    """Build the report."""
    if not customer:
        raise FailJob("expected a customer")
    ctx.check()
    return f"{customer} {pages} {ctx.name} {ctx.settings['PI_JOB_QUEUE_NAME']}"


@job("kit.tidy")
def tidy(days: int = 3) -> int:
    return days


@job("kit.later")
async def later(what: str) -> str:
    return what.upper()


@job("kit.both")
def both(ctx: JobContext, customer: str) -> str:
    tidy.enqueue(4)
    return build(ctx, customer)


@pytest.fixture
def app() -> flask.Flask:
    app = flask.Flask("an_app")
    config = {"CLASS": "pijobs.HueyQueue", "URL": "memory://", "NAME": "mine", "PLUGINS": [__name__]}
    app.config.update({f"PI_JOB_QUEUE_{name}": value for name, value in config.items()}, SECRET_KEY="s")
    JobQueue(app)
    return app


@pytest.fixture
def queue(app: flask.Flask) -> Iterator[Queue]:
    with app.app_context():
        queue = app.extensions["pijobs"].queue
        in_memory(queue, ManualClock())
        yield queue


def test_it_is_its_job_and_its_function() -> None:
    assert isinstance(build, Job) and (build.name, build.expires, build.retry.max_attempts) == ("kit.build", 60, 1)
    assert build.__name__ == "build" and inspect.getdoc(build) == "Build the report."
    assert list(inspect.signature(build).parameters) == ["ctx", "customer", "pages"]


def test_a_module_of_such_functions_is_a_plugin(queue: Queue) -> None:
    assert set(queue.registry) == {"kit.build", "kit.tidy", "kit.later", "kit.both"}


def test_enqueue_gives_it_to_the_queue_of_the_current_app(app: flask.Flask, queue: Queue) -> None:
    handle = build.enqueue("acme", pages=3)
    waiting = assert_enqueued(queue, "kit.build", customer="acme", pages=3)
    assert waiting.id == handle.id and waiting.group == "kit.acme"
    assert [attempt.state for attempt in drain(queue, app_context=app.app_context)] == [State.DONE]


def test_options_are_those_of_one_call(queue: Queue) -> None:
    urgent = build.options(delay=30, expires=90, priority=7, key="acme")
    first, second = urgent.enqueue("acme"), urgent.enqueue("acme")
    kept = build.options(key="acme", delay=1, on_conflict="keep").enqueue("acme")
    waiting = assert_enqueued(queue, "kit.build")
    assert first.id != second.id == kept.id == waiting.id
    assert (waiting.state, waiting.priority) == (State.SCHEDULED, 7)


def test_without_an_app_the_remedy_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"'with app.app_context\(\):', or .* build.options\(queue=queue\)"):
        build.enqueue("acme")


def test_without_an_app_the_queue_can_be_named(app: flask.Flask) -> None:
    queue = app.extensions["pijobs"].queue
    assert build.options(queue=queue).enqueue("acme").state is State.QUEUED


def test_an_app_without_a_queue_is_told() -> None:
    with flask.Flask("bare").app_context(), pytest.raises(ConfigurationError, match=r"call JobQueue\(app\) first"):
        build.enqueue("acme")


def test_a_plain_call_runs_it_here_as_a_function(queue: Queue) -> None:
    assert build("acme", pages=2) == "acme 2 kit.build mine" and tidy() == 3
    with pytest.raises(FailJob):
        build("")
    assert drain(queue) == []


def test_a_plain_call_needs_no_app() -> None:
    assert build("acme") == "acme 1 kit.build privacyidea" and asyncio.run(later("x")) == "X"


def test_a_plain_call_may_be_given_a_context(queue: Queue) -> None:
    assert both("acme") == "acme 1 kit.both mine"
    assert_enqueued(queue, "kit.tidy", days=4)


def test_a_plain_call_has_the_deadline_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    @job("kit.late", expires=1)
    def late(ctx: JobContext) -> None:
        monkeypatch.setattr("pijobs.base.clock.time", lambda: 1e11)
        ctx.check()

    with pytest.raises(DeadlinePassed):
        late()


def test_a_coroutine_function_is_a_job(app: flask.Flask, queue: Queue) -> None:
    later.enqueue("x")
    assert [attempt.state for attempt in drain(queue, app_context=app.app_context)] == [State.DONE]


def test_a_type_checker_knows_the_arguments(queue: Queue) -> None:
    wrong: list[Any] = [
        lambda: build.enqueue(),  # type: ignore[call-arg]
        lambda: build.enqueue(7),  # type: ignore[arg-type]
        lambda: build.enqueue("acme", page=3),  # type: ignore[call-arg]
        lambda: build.options(delay=1).enqueue("acme", pages="3"),  # type: ignore[arg-type]
        lambda: tidy.options(delay=1).enqueue("3"),  # type: ignore[arg-type]
    ]
    for call in wrong:
        with pytest.raises(EncodeError):
            call()


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="dealy"):
        build.options(dealy=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="expirs"):
        job("kit.x", expirs=3)(print)  # type: ignore[call-arg]


def test_a_decorator_without_a_name_is_told_how() -> None:
    with pytest.raises(TypeError, match=r'expected @job\("sms.send"\) above function'):

        @job  # type: ignore[arg-type]
        def function() -> None: ...


def test_a_generator_is_refused() -> None:
    with pytest.raises(ValueError, match=r"job 'kit.x': function must do the job when it is called, got a generator"):

        @job("kit.x")
        def function() -> Iterator[int]:
            yield 1


# -- plugins ---------------------------------------------------------------------------------------------------------


def test_jobs_of_a_module_are_those_that_it_defines(add_module: AddModule) -> None:
    source = "from pijobs import job\n@job('first.b')\ndef b(): ...\n@job('first.a')\ndef a(): ...\nagain = a\n"
    add_module("kit_first", source)
    add_module("kit_second", "from kit_first import a\nfrom pijobs import Job\nx = Job('second.x', print)\n")
    assert [one.name for one in jobs_in("kit_first")] == ["first.b", "first.a"]
    assert jobs_in("kit_second") == [] == jobs_in(pijobs) and jobs_in(sys.modules["kit_first"])


def test_a_hook_says_which_jobs_there_are(add_module: AddModule) -> None:
    source = "from pijobs import hookimpl, job\n@job('some.a')\ndef a(): ...\n@job('some.b')\ndef b(): ...\n"
    source += "@hookimpl\ndef register_jobs(settings):\n    return [a]\n"
    plugins = Plugins([add_module("kit_some", source)])
    assert [one.name for one in plugins.register_jobs(validate({}, CORE_SETTINGS))] == ["some.a"]


def test_settings_override_the_options_of_a_decorated_job(app: flask.Flask) -> None:
    app = flask.Flask("another")
    app.config.update(PI_JOB_QUEUE_PLUGINS=[__name__], PI_JOB_QUEUE_JOBS={"kit.build": {"priority": 9}})
    JobQueue(app)
    assert app.extensions["pijobs"].queue.registry["kit.build"].priority == 9


def test_calls_of_functions_go_to_the_queue_together(app: flask.Flask, queue: Queue) -> None:
    given = [build.call("acme", pages=2), tidy.options(delay=60, key="tidy").call(4)]
    first, second = queue.enqueue_many(given)
    assert (first.state, second.state) == (State.QUEUED, State.SCHEDULED)
    assert_enqueued(queue, "kit.build", customer="acme", pages=2)
    build.call(1)  # type: ignore[arg-type]
    tidy.options(delay=1).call(hours=1)  # type: ignore[call-arg]
