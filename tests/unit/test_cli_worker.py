"""What ``pijobs worker`` refuses before it begins."""

from __future__ import annotations

from pathlib import Path

import flask
import pytest

from pijobs.cli.worker import load_app
from pijobs.errors import ConfigurationError

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
        (["--app", "no_such_module:app"], "--app: expected something to import"),
        (["--app", "module_only"], "--app: expected module:factory, found 'module_only'"),
        (["--app", "logging:raiseExceptions"], "--app: expected a Flask app, found bool"),
        (["--app", "math:sqrt"], "--app: expected an app, but 'math:sqrt' raises TypeError"),
    ],
)
def test_an_impossible_option_is_refused(run: Run, pi_cfg: Write, args: list[str], told: str) -> None:
    result = run("worker", *args, "--config", pi_cfg(QUEUE))
    assert result.code == 2 and told in result.err


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
