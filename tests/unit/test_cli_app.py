"""An app with the settings is enough for every command; there is no pi.cfg in these tests."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path

import pytest

from pijobs.cli.invocation import load_app
from pijobs.cli.worker import told_at_start
from pijobs.errors import ConfigurationError

from .conftest import AddModule
from .test_cli_main import Run, _fresh_commands, run

__all__ = ["_fresh_commands", "run"]

APP = """
import flask
from pijobs.flask import JobQueue

def create_app():
    app = flask.Flask("a_shop")
    app.config.update(
        SECRET_KEY="s" * 30, PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_URL="sqlite:///FOLDER/queue.sqlite",
        PI_JOB_QUEUE_PLUGINS=["a_shop_jobs"],
    )
    JobQueue(app)
    return app
"""
JOBS = """
import datetime
import flask
from pijobs import crontab, job

told = []

@job("shop.greet")
def greet(name: str, day: datetime.date | None = None, times: int = 1, words=None):
    told.append((flask.current_app.name, name, day, times, words))
    if name == "bad":
        raise OSError("the printer burns")

@job("shop.tidy", schedule=crontab(minute="0", hour="3", month="2", day="29"))
def tidy(): ...

@job("shop.often", schedule=crontab(minute="*/5"), timezone="Asia/Tokyo", missed="skip")
def often(): ...
"""


@pytest.fixture(autouse=True)
def shop(add_module: AddModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pijobs.settings.pifile._DEFAULT_PLACES", (tmp_path / "a.cfg", tmp_path / "b.cfg"))
    add_module("a_shop", APP.replace("FOLDER", str(tmp_path)))
    add_module("a_bare_app", "import flask\napp = flask.Flask('bare')\n")
    add_module("a_shop_jobs", JOBS)


@pytest.mark.parametrize("args", [("--app", "a_shop", "status"), ("status", "--app=a_shop:create_app")])
def test_the_app_may_stand_before_and_after_the_command(run: Run, args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.code == 0 and "queue.sqlite" in result.out


def test_commands_show_the_settings_and_plugins_of_the_app(run: Run) -> None:
    shown = json.loads(run("config", "show", "--json", "--app", "a_shop").out)
    assert shown["PI_JOB_QUEUE_PLUGINS"] == "['a_shop_jobs']"
    assert "job shop.greet" in run("plugins", "--app", "a_shop").out


def test_an_app_without_a_queue_is_told(run: Run) -> None:
    result = run("status", "--app", "a_bare_app")
    assert result.code == 2 and "app 'bare' has no job queue; call JobQueue(app) in it" in result.err


@pytest.mark.parametrize("path", ["a_shop", "a_shop:create_app", "a_shop:create_app()"])
def test_an_app_is_found_as_flask_finds_it(path: str) -> None:
    assert load_app(path).name == "a_shop"


def test_an_app_may_lie_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/a_local_app.py").write_text("import flask\napp = flask.Flask('local')\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path)  # so that what flask adds goes afterwards
    assert load_app("a_local_app").name == "local"


@pytest.mark.parametrize("args", [["status"], ["list"], ["jobs", "list"], ["run", "shop.greet", "name=x"]])
def test_the_commands_are_there_as_flask_jobs(args: list[str]) -> None:
    result = load_app("a_shop").test_cli_runner().invoke(args=["jobs", *args])
    assert result.exit_code == 0 and result.output


def test_flask_jobs_ends_with_the_exit_codes_of_pijobs() -> None:
    runner = load_app("a_shop").test_cli_runner()
    assert runner.invoke(args=["jobs", "run", "shop.greed"]).exit_code == 1
    assert runner.invoke(args=["jobs", "no-such-command"]).exit_code == 2


# -- run -------------------------------------------------------------------------------------------------------------


def test_a_job_runs_here_with_values_as_its_annotations_want_them(run: Run) -> None:
    values = ["name=12", "day=2026-11-01", "times=3", "words=4"]
    result = run("jobs", "run", "shop.greet", *values, "--app", "a_shop")
    assert (result.code, result.out) == (0, "shop.greet: done\n")
    [told] = __import__("a_shop_jobs").told
    assert told == ("a_shop", "12", datetime.date(2026, 11, 1), 3, "4")


def test_a_job_that_fails_here_tells_where(run: Run) -> None:
    result = run("jobs", "run", "shop.greet", "name=bad", "--app", "a_shop")
    assert result.code == 1
    assert "shop.greet failed: OSError: the printer burns" in result.err and "a_shop_jobs.py:12 in greet" in result.err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["shop.greet", "name"], "expected KEY=VALUE, found 'name'"),
        (["shop.greet", "name=x", "times=often"], "argument 'times': expected int"),
        (["shop.greed", "name=x"], "did you mean 'shop.greet'?"),
    ],
)
def test_a_call_that_can_not_be_meant_is_refused(run: Run, args: list[str], told: str) -> None:
    result = run("jobs", "run", *args, "--app", "a_shop")
    assert result.code in (1, 2) and told in result.err


# -- schedule and worker ---------------------------------------------------------------------------------------------


def test_a_periodic_job_is_run_now_or_skipped(run: Run) -> None:
    (queued,) = re.findall(
        "shop.often: enqueued as (\\w+)", run("schedule", "run", "shop.often", "--app", "a_shop").out
    )
    assert queued in run("jobs", "list", "--app", "a_shop").out
    assert "is skipped" in run("schedule", "skip", "shop.often", "--app", "a_shop").out
    assert " is skipped, last never" in run("schedule", "--app", "a_shop").out
    assert "did you mean 'shop.often'" in run("schedule", "run", "shop.other", "--app", "a_shop").err


def test_the_schedule_tells_when_each_periodic_job_runs_next(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("schedule", "--json", "--app", "a_shop").out)}
    often = rows["shop.often"]
    assert often["next"].endswith("+09:00") and int(often["next"][14:16]) % 5 == 0
    assert (often["last"], often["missed"]) == (None, "skip")
    assert rows["shop.tidy"]["next"] is None or "-02-29T03:00" in rows["shop.tidy"]["next"]
    assert "shop.often (*/5 * * * *): next 2" in run("schedule", "--app", "a_shop").out


def test_a_worker_tells_a_terminal_what_it_does_and_where_its_log_is(tmp_path: Path) -> None:
    told = told_at_start(load_app("a_shop").extensions["pijobs"], 8, tmp_path / "it.log")
    assert "8 workers run the jobs of queue privacyidea in sqlite:" in told
    assert "shop.greet" in told and f"log: {tmp_path}/it.log" in told


def test_the_server_is_none_of_an_app(run: Run) -> None:
    result = run("server", "--app", "a_shop")
    assert result.code == 2 and "flask run" in result.err


def test_an_app_that_raises_is_told(add_module: AddModule) -> None:
    add_module("a_bad_app", "raise OSError('the database is away')\n")
    with pytest.raises(ConfigurationError, match="'a_bad_app' raises OSError: the database is away"):
        load_app("a_bad_app")
