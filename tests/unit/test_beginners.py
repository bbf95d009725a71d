"""The usual mistakes, each answered by one sentence that names file, line and remedy."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import flask
import pytest

from pijobs import State, job
from pijobs.errors import EncodeError, UnknownJob
from pijobs.flask import JobQueue
from pijobs.plugins.loading import Plugins
from pijobs.settings import CORE_SETTINGS, validate
from pijobs.testing import ManualClock, drain, in_memory

from .conftest import AddModule, Install

HEAD = "from pijobs import Job, hookimpl, job\n\ndef f(): ...\n\n"


def reason(name: str) -> str:
    """Why the plugin is not loaded."""
    plugins = Plugins([name])
    plugins.register_jobs(validate({}, CORE_SETTINGS))
    (failed,) = plugins.failed
    assert failed.error is not None
    return failed.error


@pytest.mark.parametrize(
    ("source", "line", "told"),
    [
        (
            "@hookimpl\ndef register_jobs(settings):\n    return Job('a.b', f)\n",
            5,
            "register_jobs: expected a list, found a Job (FILE:LINE); put it into brackets: return […]",
        ),
        (
            "@hookimpl\ndef register_jobs(settings):\n    return [f]\n",
            3,
            'register_jobs: expected jobs, found a function; write @job("…") above it (FILE:LINE)',
        ),
        (
            "@hookimpl\ndef register_jobs(config):\n    return []\n",
            5,
            (
                "register_jobs: expected 'settings', found 'config' (FILE:LINE); "
                "a hook is given its parameters by their names"
            ),
        ),
        (
            "@hookimpl\ndef register_pages(config):\n    return []\n",
            5,
            (
                "register_pages: expected no parameter, found 'config' (FILE:LINE); "
                "a hook is given its parameters by their names"
            ),
        ),
        (
            "\ndef register_jobs(settings):\n    return []\n",
            6,
            "register_jobs is not marked (FILE:LINE): expected '@hookimpl' above it (from pijobs import hookimpl)",
        ),
        (
            "@hookimpl\ndef register_job():\n    return []\n",
            5,
            "hook 'register_job' is not known to pijobs (FILE:LINE); did you mean 'register_jobs'?",
        ),
        (
            "\n@job('a.b')\ndef build(ctx, customer): ...\n",
            6,
            "job 'a.b': expected the context to be annotated, found 'ctx' alone; write ctx: JobContext (FILE:LINE)",
        ),
    ],
)
def test_a_mistake_in_a_plugin_is_told_with_place_and_remedy(
    add_module: AddModule, tmp_path: Path, source: str, line: int, told: str
) -> None:
    name = add_module("a_beginners_plugin", HEAD + source)
    assert reason(name) == told.replace("FILE", f"{tmp_path}/modules/{name}.py").replace("LINE", str(line))


def test_one_name_for_two_jobs_is_told_with_both_places(add_module: AddModule) -> None:
    told = reason(add_module("twice", HEAD + "@job('a.b')\ndef one(): ...\n\n@job('a.b')\ndef two(): ...\n"))
    assert re.search(r"twice.py:5\) and by plugin 'twice' \(.*twice.py:8\); give one of them another name", told)


def test_an_entry_point_to_a_function_is_told(add_module: AddModule, install: Install) -> None:
    install("some-distribution", pointed=f"{add_module('pointed', HEAD)}:f")
    assert re.fullmatch(
        r"expected an entry point that names a module, found the function 'pointed:f' \(.*pointed.py:3\); "
        r'write pointed = "pointed" in pyproject.toml, and install it again',
        reason("pointed"),
    )


@pytest.mark.parametrize("group", ["pijobs.plugins", "pijob", "pi_jobs"])
def test_a_wrong_entry_point_group_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, install: Install
) -> None:
    install("some-distribution", weather="weather")
    file = tmp_path / "site-packages/some_distribution-1.0.dist-info/entry_points.txt"
    file.write_text(file.read_text().replace("[pijobs]", f"[{group}]"))
    assert reason("weather") == (
        f"its entry point is in the group '{group}', expected 'pijobs'; "
        "write [project.entry-points.pijobs] in its pyproject.toml, and install it again"
    )


def test_a_package_that_is_not_on_the_path_is_told() -> None:
    told = reason("no_such_package.jobs")
    assert told.startswith("no module 'no_such_package' on the path of this process, which works in /")
    assert "pip install" in told and "PYTHONPATH" in told


def test_two_things_of_one_name_in_a_package_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_shop").mkdir()
    (tmp_path / "a_shop/__init__.py").write_text("from pijobs.flask import JobQueue\njobs = JobQueue()\n")
    (tmp_path / "a_shop/jobs.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    package = __import__("a_shop")
    assert reason("a_shop.jobs") == (
        f"package 'a_shop' has the name 'jobs' twice: a JobQueue in {tmp_path}/a_shop/__init__.py, "
        "and its module 'a_shop.jobs', which would take that place; rename one of them"
    )
    assert isinstance(package.jobs, JobQueue)
    del sys.modules["a_shop"]


# -- calls -----------------------------------------------------------------------------------------------------------

JOBS = "from pijobs import job\n\n@job('kit.build')\ndef build(customer: str, pages: int = 1): ...\n"
JOBS += "\ndef plain(): ...\n"


@pytest.fixture
def jobs(add_module: AddModule) -> ModuleType:
    return __import__(add_module("beginners_jobs", JOBS))


@pytest.fixture
def app(jobs: ModuleType) -> flask.Flask:
    app = flask.Flask("an_app")
    app.config.update(SECRET_KEY="s", PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_URL="memory://")
    app.config["PI_JOB_QUEUE_PLUGINS"] = [jobs.__name__]
    JobQueue(app)
    return app


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda queue, jobs: queue.enqueue("kit.build", customer="acme"),
            (
                "job 'kit.build': 'customer' is no option of enqueue; "
                "the job's own arguments go into kwargs={'customer': …}"
            ),
        ),
        (
            lambda queue, jobs: queue.enqueue("kit.build", 1),
            (
                "job 'kit.build': expected a list or tuple as args, found int; "
                "write the arguments in brackets, or by their names: kwargs={…}"
            ),
        ),
        (
            lambda queue, jobs: queue.enqueue(jobs.build),
            "expected the name of a job, found a function (FILE:3); call build.enqueue(…)",
        ),
        (
            lambda queue, jobs: queue.enqueue(jobs.plain),
            'expected the name of a job, found a function (FILE:6); write @job("…") above it',
        ),
        (
            lambda queue, jobs: queue.enqueue("kit.build", kwargs={"page": 2}),
            (
                "job 'kit.build': expected a call that fits (customer: str, pages: int = 1), "
                "missing a required argument: 'customer' (FILE:3)"
            ),
        ),
    ],
)
@pytest.mark.parametrize("caller", [JobQueue, lambda: flask.current_app.extensions["pijobs"].queue])
def test_a_wrong_call_is_told_with_its_remedy(
    app: flask.Flask, jobs: ModuleType, call: Callable[..., Any], told: str, caller: Callable[[], Any]
) -> None:
    with app.app_context(), pytest.raises((EncodeError, UnknownJob, TypeError)) as caught:
        call(caller(), jobs)
    assert str(caught.value).replace("'str'", "str") == told.replace("FILE", str(jobs.__file__))


def test_a_job_that_is_not_registered_is_told_with_its_module(app: flask.Flask) -> None:
    @job("kit.other")
    def other() -> None: ...

    with app.app_context(), pytest.raises(UnknownJob) as caught:
        other.enqueue()
    assert re.fullmatch(
        rf"job 'kit.other' \(.*test_beginners.py:\d+\) is not registered here; "
        rf"return it from register_jobs of its plugin, or add '{__name__}' to PI_JOB_QUEUE_PLUGINS",
        str(caught.value),
    )


def test_a_worker_that_is_older_than_the_plugin_is_told(app: flask.Flask) -> None:
    queue = app.extensions["pijobs"].queue
    storage = in_memory(queue, ManualClock())
    handle = queue.enqueue("kit.build", ["acme"])
    queue.runner._registry = queue.registry = type(queue.registry)({})
    drain(queue)
    record = storage.get(handle.id)
    assert record.state is State.SCHEDULED
    assert (record.reason or "").startswith("this worker does not know job 'kit.build'; restart it, if its plugin was")
