"""The kit for authors: a queue in memory, what waits in it, and what comes of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import flask
import pytest
from services import PROGRAM

from pijobs import State
from pijobs.errors import QueueUnavailable
from pijobs.factory import build
from pijobs.flask import JobQueue, current_queue
from pijobs.request.queue import Queue
from pijobs.testing import Drained, Enqueued, ManualClock, drain, in_memory

from .conftest import AddModule

PLUGIN = """
import flask
from pijobs import FailJob, Job, JobContext, Limits, RetryJob, RetryPolicy, hookimpl

told = []

def tell(ctx: JobContext, what: str, tries: int = 1) -> None:
    ctx.check()
    if ctx.attempt < tries:
        raise RetryJob("not yet", delay=60)
    if not what:
        raise FailJob("nothing to tell")
    told.append((what, flask.current_app.name if flask.has_app_context() else None))

@hookimpl
def job_finished(event):
    told.append(event.state)

@hookimpl
def register_jobs():
    return [
        Job("kit.tell", tell, retry=RetryPolicy(max_attempts=3), label=lambda what, tries=1: what[:1] + "***"),
        Job("kit.slowly", tell, group=lambda what: "somewhere", limits=Limits(rate=1, per=60)),
    ]
"""

Waiting = Callable[..., list[Enqueued]]
Drain = Callable[..., list[Drained]]


@pytest.fixture
def told(add_module: AddModule) -> list[Any]:
    name = add_module("kit_plugin", PLUGIN)
    module = __import__(name)
    found: list[Any] = module.told
    return found


@pytest.fixture
def job_settings(told: list[Any]) -> dict[str, Any]:
    return {"PI_JOB_QUEUE_PLUGINS": ("kit_plugin",), "PI_JOB_QUEUE_FALLBACK": ()}


def test_a_call_waits_with_its_arguments_by_name(job_queue: Queue, assert_enqueued: Callable[..., Enqueued]) -> None:
    handle = job_queue.enqueue("kit.tell", ["hello"], {"tries": 2}, expires=60, priority=3)
    found = assert_enqueued("kit.tell", what="hello")
    assert (found.id, found.arguments, found.label) == (handle.id, {"what": "hello", "tries": 2}, "h***")
    assert (found.state, found.priority) == (State.QUEUED, 3)
    assert found.deadline == pytest.approx(found.due + 60)


def test_what_does_not_wait_is_told_with_what_does(job_queue: Queue, assert_enqueued: Callable[..., Enqueued]) -> None:
    job_queue.enqueue("kit.tell", kwargs={"what": "other"})
    with pytest.raises(AssertionError, match=r"found 0; there waits:\n  kit.tell \{'what': 'other'\}"):
        assert_enqueued("kit.tell", what="hello")


def test_draining_runs_what_is_due_and_tells_observers(
    job_queue: Queue, drain: Drain, enqueued: Waiting, told: list[Any]
) -> None:
    job_queue.enqueue("kit.tell", kwargs={"what": "one"})
    job_queue.enqueue("kit.tell", kwargs={"what": ""})
    job_queue.enqueue("kit.tell", kwargs={"what": "later"}, delay=10)
    assert [one.state for one in drain()] == [State.DONE, State.DEAD]
    assert told == [("one", "pijobs.testing"), "done", "dead"]
    assert [one.arguments["what"] for one in enqueued()] == ["later"]


def test_time_passes_when_the_test_says_so(job_queue: Queue, drain: Drain, job_clock: ManualClock) -> None:
    job_queue.enqueue("kit.tell", kwargs={"what": "later"}, delay=10)
    job_clock.advance(9)
    assert drain() == []
    job_clock.advance(1)
    assert [one.state for one in drain()] == [State.DONE]


def test_all_attempts_run_when_time_may_pass(job_queue: Queue, drain: Drain, job_clock: ManualClock) -> None:
    before = job_clock.time()
    job_queue.enqueue("kit.tell", kwargs={"what": "x", "tries": 3})
    attempts = drain(retries=True)
    assert [one.state for one in attempts] == [State.SCHEDULED, State.SCHEDULED, State.DONE]
    assert job_clock.time() - before == pytest.approx(120, abs=1)


def test_a_deadline_ends_what_comes_too_late(job_queue: Queue, drain: Drain, job_clock: ManualClock) -> None:
    handle = job_queue.enqueue("kit.tell", kwargs={"what": "x"}, expires=5)
    job_clock.advance(6)
    assert drain() == []
    assert job_queue.storage is not None
    assert job_queue.storage.get(handle.id).state is State.EXPIRED


def test_a_rate_holds_here_too(job_queue: Queue, drain: Drain, job_clock: ManualClock) -> None:
    for what in ("a", "b"):
        job_queue.enqueue("kit.slowly", kwargs={"what": what})
    assert len(drain()) == 1
    job_clock.advance(61)
    assert len(drain()) == 1


def test_a_storage_that_is_down_is_up_again_with_what_it_held(
    job_queue: Queue, storage_down: Callable[[], AbstractContextManager[None]], enqueued: Waiting
) -> None:
    job_queue.enqueue("kit.tell", kwargs={"what": "before"})
    with storage_down(), pytest.raises(QueueUnavailable):
        job_queue.enqueue("kit.tell", kwargs={"what": "lost"})
    assert [one.arguments["what"] for one in enqueued("kit.tell")] == ["before"]


class TestWithAnApp:
    """The same fixtures on the queue of a Flask app."""

    @pytest.fixture
    def job_app(self, job_settings: dict[str, Any]) -> flask.Flask:
        app = flask.Flask("the_app")
        app.config.update(job_settings, SECRET_KEY="s", PI_JOB_QUEUE_CLASS="pijobs.HueyQueue")
        JobQueue(app)
        app.post("/tell/<what>")(lambda what: current_queue().enqueue("kit.tell", [what]).id)
        return app

    def test_a_view_enqueues_and_the_job_runs_in_the_context_of_the_app(
        self, job_queue: Queue, job_app: flask.Flask, drain: Drain, told: list[Any]
    ) -> None:
        assert job_app.test_client().post("/tell/hello").status_code == 200
        assert [one.state for one in drain()] == [State.DONE]
        assert ("hello", "the_app") in told


def test_a_periodic_job_runs_when_its_time_has_come_since_the_test_began(add_module: AddModule) -> None:
    source = "from pijobs import crontab, job\n@job('kit.minutely', schedule=crontab())\ndef minutely(): ...\n"
    values = {"SECRET_KEY": "s", "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_URL": "memory://"}
    queue = build({**values, "PI_JOB_QUEUE_PLUGINS": [add_module("periodic_plugin", source)]}).queue
    clock = ManualClock()
    in_memory(queue, clock)
    attempts = [drain(queue)]
    for seconds in (60, 3600, 0):
        clock.advance(seconds)
        attempts.append(drain(queue))
    assert [len(ran) for ran in attempts] == [0, 1, 1, 0]


REAL = """
import flask, pytest
from pijobs import job
from pijobs.factory import build
from pijobs.flask import JobQueue

@job("real.send")
def send(): ...

@pytest.fixture
def job_app():
    app = flask.Flask("an_app")
    app.config.update(SECRET_KEY="s", PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_URL="sqlite:///queue.sqlite")
    app.config.update(PI_JOB_QUEUE_PLUGINS=[__name__])
    JobQueue(app)
    return app

def enqueue(app):
    with app.app_context():
        try:
            send.enqueue()
        except Exception:  # an app that goes on
            pass

def test_without_the_fixture(job_app):
    enqueue(job_app)

def test_with_it(job_app, job_queue):
    enqueue(job_app)

@pytest.mark.pijobs_real_storage
def test_with_a_storage_of_its_own(job_app):
    enqueue(job_app)
"""


def test_a_test_that_would_reach_the_real_queue_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_real_queue=REAL)
    pytester.syspathinsert()
    result = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["the test would put a job into the real queue sqlite:///*; use the fixture job_queue*"]
    )


def test_pijobs_itself_needs_no_pytest() -> None:
    program = "import sys, pijobs.cli.main, pijobs.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=PROGRAM).returncode == 0


def test_the_fixtures_are_there_for_any_project(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_it(job_queue, drain, smtp_sink):\n    assert drain() == [] and smtp_sink.port\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PROGRAM)
    assert done.returncode == 0, done.stdout
