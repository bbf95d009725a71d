"""What ``pijobs worker`` refuses before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flask
import pytest

from pijobs.cli.invocation import load_app
from pijobs.cli.worker import _options, effective, worker
from pijobs.errors import ConfigurationError
from pijobs.settings import CORE_SETTINGS, validate
from pijobs.settings.worker import WORKER_SETTINGS
from pijobs.worker.leasing import Pause
from pijobs.worker.main import WorkerOptions

from .conftest import AddModule
from .test_cli_main import QUEUE, Run, Write, _fresh_commands, pi_cfg, run

__all__ = ["_fresh_commands", "pi_cfg", "run"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["-w", "0"], "-w"),
        (["-k", "fibre"], "-k"),
        (["-s", "7"], "expected a divisor of 60, found 7"),
        (["-M", "5", "-C"], "needs the health check"),
        (["-v", "-q"], "expected one of them"),
        (["-r", "1"], "expected N:PRIORITY such as 1:10, found '1'"),
        (["-r", "0:5"], "expected N:PRIORITY"),
        (["-r", "1:1001"], "expected N:PRIORITY"),
        (["--http", "8080"], "expected HOST:PORT such as 127.0.0.1:8080, found '8080'"),
        (["--http", "localhost:x"], "expected HOST:PORT"),
        (["--http", "localhost:99999"], "expected HOST:PORT"),
        (["-t", "-1"], "-t"),
        (["--app", "no_such_module:app"], "--app: expected an app, found 'no_such_module:app': Could not import"),
        (["--app", "logging:raiseExceptions"], "A valid Flask application was not obtained"),
    ],
)
def test_an_impossible_option_is_refused(run: Run, pi_cfg: Write, args: list[str], told: str) -> None:
    result = run("worker", *args, "--config", pi_cfg(QUEUE))
    assert result.code == 2 and told in result.err


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("SCHEDULER_INTERVAL = 7", "expected a divisor of 60"),
        ("RESERVE = ['1']", "expected a list of texts such as '1:10'"),
        ("HTTP = '8080'", "expected 'HOST:PORT'"),
        ("WORKER_TYPE = 'fibre'", "expected 'thread', 'process' or 'greenlet'"),
        ("MAX_TASKS = 5\nPI_JOB_QUEUE_DISABLE_HEALTH_CHECK = True", "needs the health check"),
        ("VERBOSE = PI_JOB_QUEUE_QUIET = True", "expected one of them"),
        ("APP = 'no_such_module:app'", "--app: expected an app, found 'no_such_module:app': Could not import"),
    ],
)
def test_an_impossible_setting_is_refused(run: Run, pi_cfg: Write, written: str, told: str) -> None:
    result = run("worker", "--config", pi_cfg(QUEUE + f"PI_JOB_QUEUE_{written}\n"))
    assert result.code == 2 and told in result.err


WRITTEN = {
    "WORKERS": 3, "WORKER_TYPE": "process", "RESERVE": ["1:10", "2:-5"], "DELAY": 0.5, "BACKOFF": 2, "MAX_DELAY": 0.9,
    "HEALTH_CHECK_INTERVAL": 3.0, "DISABLE_HEALTH_CHECK": True, "MAX_TASKS": 9, "SHUTDOWN_TIMEOUT": 4,
    "SCHEDULER_INTERVAL": 5, "NO_PERIODIC": True, "LOGFILE": "a.log", "VERBOSE": True, "QUIET": False, "SIMPLE": True,
    "APP": "a:b", "HTTP": "[::1]:80",
}  # fmt: skip
GIVEN = (
    "-w 1 -k thread -r 3:7 -d 0.2 -b 1.5 -m 0.7 -c 2 --health-check -M 8 -t 1 -s 2 --periodic -l b.log -q --no-simple "
    "--app c:d --http h:9"
)


def options(*args: str, **written: Any) -> dict[str, Any]:
    given = worker.make_context("worker", [*args], resilient_parsing=False).params
    values = {f"PI_JOB_QUEUE_{name}": value for name, value in written.items()}
    return effective(given, validate(values, CORE_SETTINGS))


def test_by_default_there_are_eight_threads() -> None:
    found = _options(options())
    assert found == WorkerOptions() and (found.workers, found.worker_type, found.floors()) == (8, "thread", [None] * 8)


def test_a_worker_is_configured_by_settings_alone() -> None:
    found = options(**WRITTEN)
    assert _options(found) == WorkerOptions(
        3, "process", Pause(0.5, 2, 0.9), 3.0, check_health=False, max_tasks=9, shutdown_timeout=4,
        scheduler_interval=5, periodic=False, reserved=((1, 10), (2, -5)),
    )  # fmt: skip
    assert (found["logfile"], found["verbose"], found["simple"], found["http"]) == ("a.log", True, True, ("::1", 80))


def test_the_command_line_wins() -> None:
    found = options(*GIVEN.split(), **WRITTEN)
    assert _options(found) == WorkerOptions(
        1, "thread", Pause(0.2, 1.5, 0.7), 2.0, check_health=True, max_tasks=8, shutdown_timeout=1,
        scheduler_interval=2, periodic=True, reserved=((3, 7),),
    )  # fmt: skip
    assert (str(found["logfile"]), found["verbose"], found["quiet"], found["simple"]) == ("b.log", None, True, False)
    assert (found["app_path"], found["http"]) == ("c:d", ("h", 9))


def test_each_option_that_has_an_effect_has_its_setting() -> None:
    without = {"flush_locks", "extra_locks", "graceful_signal", "config", "version"}
    names = {str(parameter.name) for parameter in worker.params} - without
    assert {name.removesuffix("_path").upper() for name in names} == {row.name[13:] for row in WORKER_SETTINGS}


def test_an_async_job_among_greenlets_is_refused(
    run: Run, pi_cfg: Write, add_module: AddModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pijobs.cli.worker._patch", lambda: None)
    add_module("async_jobs", "from pijobs import Job, hookimpl\n@hookimpl\ndef register_jobs():\n"
               "    return [Job('a.later', later)]\nasync def later(): ...\n")  # fmt: skip
    text = QUEUE + "PI_JOB_QUEUE_PLUGINS = ['async_jobs']\nPI_JOB_QUEUE_WORKER_TYPE = 'greenlet'\n"
    result = run("worker", "-l", "-", "--config", pi_cfg(text))
    assert result.code == 2 and "for jobs that are 'async def' (a.later), found greenlet" in result.err


def test_a_log_file_is_refused_beside_a_logging_configuration(run: Run, pi_cfg: Write, tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text("{}")
    file = pi_cfg(QUEUE + f"PI_LOGCONFIG = '{tmp_path}/log.json'\n")
    result = run("worker", "-l", "x.log", "--config", file)
    assert result.code == 2 and f"PI_LOGCONFIG names {tmp_path}/log.json" in result.err


@pytest.mark.parametrize(
    "text", ["", QUEUE + "PI_JOB_QUEUE_IMMEDIATE = True\n", "SECRET_KEY = 'x'\nPI_JOB_QUEUE_CLASS = 'no.such.Class'\n"]
)
def test_without_a_queue_to_work_on_it_refuses(run: Run, pi_cfg: Write, text: str) -> None:
    result = run("worker", "--config", pi_cfg(text))
    assert result.code == 2 and "PI_JOB_QUEUE_CLASS" in result.err


def test_a_host_app_that_can_not_be_made_is_4(run: Run, pi_cfg: Write) -> None:
    result = run("worker", "--config", pi_cfg(QUEUE + "PI_JOB_QUEUE_PLUGINS = ['broken.observer']\n"))
    assert result.code == 4 and "plugin 'broken.observer' failed in host_app: OSError" in result.err


APPS = "import flask\n\napp = flask.Flask('it')\n\ndef make():\n    return flask.Flask('made')\n\nnot_app = 5\n"


def test_an_app_or_its_factory_is_loaded(add_module: AddModule) -> None:
    add_module("some_apps", APPS)
    assert isinstance(load_app("some_apps:app"), flask.Flask)
    assert load_app("some_apps:app").name == "it" and load_app("some_apps:make").name == "made"


@pytest.mark.parametrize("name", ["not_app", "nothing"])
def test_what_is_no_app_is_refused(add_module: AddModule, name: str) -> None:
    add_module("some_apps", APPS)
    with pytest.raises(ConfigurationError, match="--app: expected"):
        load_app(f"some_apps:{name}")
