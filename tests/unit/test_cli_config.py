"""``pijobs config`` and ``pijobs plugins``."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from pijobs.settings import CORE_SETTINGS, MASK

from .conftest import AddModule
from .test_cli_main import QUEUE, Run, Write, _fresh_commands, pi_cfg, run

__all__ = ["_fresh_commands", "pi_cfg", "run"]


@pytest.fixture
def on_sqlite(pi_cfg: Write, tmp_path: Path) -> Write:
    """A ``pi.cfg`` with a queue on SQLite, and more lines."""
    return lambda text: pi_cfg(f"{QUEUE}PI_JOB_QUEUE_URL = 'sqlite:///{tmp_path}/queue.sqlite'\n{text}")


def test_show_tells_every_setting_and_what_is_written(run: Run, pi_cfg: Write) -> None:
    lines = run("config", "show", "--config", pi_cfg("PI_JOB_QUEUE_NAME = 'mine'\n")).out.splitlines()
    assert [line.split(" = ")[0] for line in lines] == [setting.name for setting in CORE_SETTINGS]
    assert "PI_JOB_QUEUE_NAME = 'mine'" in lines and "PI_JOB_QUEUE_LEASE = 10    # default" in lines


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_show_masks_secrets(run: Run, pi_cfg: Write, form: list[str]) -> None:
    file = pi_cfg(
        QUEUE + "PI_JOB_QUEUE_URL = 'redis://:s3cr3t@h/0'\nSQLALCHEMY_DATABASE_URI = 'mysql://u:s3cr3t@h/d'\n"
    )
    out = run("config", "show", *form, "--config", file).out
    assert "s3cr3t" not in out and out.count(MASK) == 3 and "@h/0" in out


def test_show_tells_the_settings_of_plugins(run: Run, pi_cfg: Write) -> None:
    file = pi_cfg("PI_JOB_QUEUE_PLUGINS = ['broken.good']\n")
    assert json.loads(run("config", "show", "--json", "--config", file).out)["PI_JOB_QUEUE_GOOD_VOLUME"] == "3"


def test_a_warning_stands_beside_the_answer(run: Run, pi_cfg: Write) -> None:
    file = pi_cfg("PI_JOB_QUEUE_PLUGINS = ['broken.import_error']\nPI_JOB_QUEUE_IMPORT_ERROR_X = 1\n")
    result = run("config", "show", "--config", file)
    assert result.code == 0 and "warning: PI_JOB_QUEUE_IMPORT_ERROR_X: belongs to a plugin" in result.err
    assert "warning: plugin broken.import_error is not loaded: ModuleNotFoundError" in result.err


def test_a_plugin_that_failed_is_told_once(run: Run, pi_cfg: Write) -> None:
    file = pi_cfg("PI_JOB_QUEUE_PLUGINS = ['broken.import_error']\n")
    assert run("no-such-command", "--config", file).err.count("broken.import_error is not loaded") == 1
    assert run("config", "show", "--config", file).err.count("broken.import_error is not loaded") == 1


def test_check_without_a_queue_says_what_that_means(run: Run, pi_cfg: Write) -> None:
    result = run("config", "check", "--config", pi_cfg(""))
    assert result.code == 0 and "all valid" in result.out and "every job runs in the request" in result.out


def test_check_tries_the_storage(run: Run, on_sqlite: Write) -> None:
    result = run("config", "check", "--config", on_sqlite(""))
    assert result.code == 0 and "storage: answers" in result.out
    assert "PI_JOB_QUEUE_SPOOL is not set" in result.err


def test_check_says_nothing_of_a_spool_that_is_there_or_not_wanted(run: Run, on_sqlite: Write, tmp_path: Path) -> None:
    for line in (f"PI_JOB_QUEUE_SPOOL = '{tmp_path}/spool.sqlite'\n", "PI_JOB_QUEUE_FALLBACK = ['direct']\n"):
        assert "SPOOL" not in run("config", "check", "--config", on_sqlite(line)).err


CHECKS = """
from pijobs import Check, CheckResult, hookimpl

def fails():
    raise OSError("no answer from alice@example.com")

@hookimpl
def register_checks(queue):
    return [
        Check("one", lambda: CheckResult(True, "is fine")),
        Check("two", lambda: CheckResult(False, "is not", "mend it")),
        Check("three", fails),
    ]
"""


def test_check_runs_the_checks_of_plugins_and_one_that_raises_is_a_failed_one(
    run: Run, on_sqlite: Write, add_module: AddModule
) -> None:
    add_module("checks", CHECKS)
    result = run("config", "check", "--config", on_sqlite("PI_JOB_QUEUE_PLUGINS = ['checks']\n"))
    assert result.code == 1 and "checks.one: ok, is fine" in result.out
    assert "checks.two: FAILED, is not\n  mend it" in result.out
    assert "checks.three: FAILED, the check itself failed: OSError: no answer from a***@" in result.out


def test_check_runs_the_checks_of_plugins_without_a_queue_too(run: Run, pi_cfg: Write, add_module: AddModule) -> None:
    add_module("checks", CHECKS)
    result = run("config", "check", "--config", pi_cfg("PI_JOB_QUEUE_PLUGINS = ['checks']\n"))
    assert result.code == 1 and "checks.two: FAILED, is not" in result.out


def test_check_tries_the_spool(run: Run, on_sqlite: Write, tmp_path: Path) -> None:
    result = run("config", "check", "--config", on_sqlite(f"PI_JOB_QUEUE_SPOOL = '{tmp_path}/nowhere/spool.sqlite'\n"))
    assert result.code == 1 and "spool: FAILED, the spool does not answer" in result.out


def test_a_spool_in_the_file_of_the_storage_is_refused(run: Run, on_sqlite: Write, tmp_path: Path) -> None:
    result = run("config", "check", "--config", on_sqlite(f"PI_JOB_QUEUE_SPOOL = '{tmp_path}/queue.sqlite'\n"))
    assert result.code == 2 and "PI_JOB_QUEUE_SPOOL: expected another file" in result.err


# -- plugins ---------------------------------------------------------------------------------------------------------

BOTH = "PI_JOB_QUEUE_PLUGINS = ['broken.good', 'broken.import_error', 'broken.duplicate_job']\n"


def test_plugins_tells_what_is_loaded_what_failed_and_why(run: Run, pi_cfg: Write) -> None:
    result = run("plugins", "--config", pi_cfg(BOTH))
    assert result.code == 4
    assert "broken.good: loaded (module broken.good)\n  job good.shout" in result.out
    assert "broken.import_error: failed (module broken.import_error)\n  reason: ModuleNotFoundError" in result.out
    assert "reason: job 'good.shout' is registered by plugin 'broken.good' (" in result.out
    assert "not loaded" not in result.err


def test_plugins_as_json(run: Run, pi_cfg: Write) -> None:
    rows = {row["name"]: row for row in json.loads(run("plugins", "--json", "--config", pi_cfg(BOTH)).out)}
    assert rows["broken.good"]["state"] == "loaded" and rows["broken.good"]["jobs"] == ["good.shout"]
    assert rows["broken.good"]["settings"] == ["PI_JOB_QUEUE_GOOD_VOLUME"]
    assert rows["broken.import_error"]["state"] == "failed" and rows["broken.import_error"]["error"]


def test_plugins_that_are_all_well_are_0(run: Run, pi_cfg: Write) -> None:
    assert run("plugins", "--config", pi_cfg("PI_JOB_QUEUE_PLUGINS = ['broken.good']\n")).code == 0


@pytest.mark.parametrize("fault", ["PI_JOB_QUEUE_LEASE = 0\n", "PI_JOB_QUEUE_JOBS = {'no.job': {'priority': 1}}\n"])
def test_plugins_needs_no_valid_pi_cfg(run: Run, pi_cfg: Write, fault: str) -> None:
    result = run("plugins", "--config", pi_cfg(f"PI_JOB_QUEUE_PLUGINS = ['broken.good']\n{fault}"))
    assert result.code == 0 and "job good.shout" in result.out


@pytest.mark.parametrize("args", [[], ["--config", "none.cfg"]])
def test_plugins_needs_no_pi_cfg_at_all(
    run: Run, args: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pijobs.settings.pifile._DEFAULT_PLACES", (tmp_path / "a.cfg", tmp_path / "b.cfg"))
    monkeypatch.setattr("pijobs.plugins.discovery.metadata.entry_points", lambda: metadata.EntryPoints(()))
    result = run("plugins", *args)
    assert result.code == 0 and "no plugins are installed" in result.out
