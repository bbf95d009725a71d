"""The command line: ``--config`` anywhere, commands of plugins, and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pijobs.cli.invocation import who
from pijobs.cli.main import cli, config_first, main, worker_main

from .conftest import PLUGINS, AddModule, Install

QUEUE = "SECRET_KEY = 's3cr3t'\nPI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'\n"


@dataclass
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]
Write = Callable[[str], str]


@pytest.fixture(autouse=True)
def _fresh_commands(monkeypatch: pytest.MonkeyPatch, broken_plugins: None, tmp_path: Path) -> None:
    """Each test is a process of its own, as far as the commands of plugins and the surroundings go."""
    monkeypatch.setattr(cli, "_asked", False)
    monkeypatch.setattr(cli, "commands", dict(cli.commands))
    monkeypatch.delenv("PRIVACYIDEA_CONFIGFILE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*args: str, command: Callable[[Any], Any] = main) -> Result:
        with pytest.raises(SystemExit) as ended:
            command(list(args))
        out, err = capsys.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def pi_cfg(tmp_path: Path) -> Write:
    """Write a ``pi.cfg`` with these lines; no plugin is loaded unless it says so."""

    def write(text: str) -> str:
        file = tmp_path / "some.cfg"
        file.touch(0o600)
        file.write_text(text if "PLUGINS" in text else f"PI_JOB_QUEUE_PLUGINS = []\n{text}")
        return str(file)

    return write


# -- --config --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sorted_"),
    [
        ([], []),
        (["status"], ["status"]),
        (["status", "--config", "x"], ["--config", "x", "status"]),
        (["--config", "x", "status"], ["--config", "x", "status"]),
        (["jobs", "list", "--config=x", "--json"], ["--config=x", "jobs", "list", "--json"]),
        (["a", "--config", "x", "--config", "y"], ["--config", "x", "--config", "y", "a"]),
        (["run", "--", "--config", "x"], ["run", "--", "--config", "x"]),
        (["a", "--configure"], ["a", "--configure"]),
    ],
)
def test_the_option_is_taken_before_and_after_the_command(given: list[str], sorted_: list[str]) -> None:
    assert config_first(given) == sorted_


def test_the_option_without_a_file_is_refused(run: Run) -> None:
    result = run("config", "check", "--config")
    assert result.code == 2 and "Option '--config' requires an argument" in result.err


def test_the_worker_of_its_own_name_takes_the_option_and_shows_it(run: Run, tmp_path: Path) -> None:
    shown = run("--help", command=worker_main)
    assert shown.out.startswith("Usage: privacyidea-queue-huey [OPTIONS]") and "--config FILE" in shown.out
    assert run("--version", command=worker_main).out.startswith("pijobs ")
    result = run("-w", "2", "--config", str(tmp_path / "none.cfg"), command=worker_main)
    assert result.code == 2 and result.err.startswith(f"privacyidea-queue-huey: {tmp_path / 'none.cfg'}: expected")


@pytest.mark.parametrize("place", ["before", "after", "joined", "variable", "working directory"])
def test_the_pi_cfg_is_found(run: Run, pi_cfg: Write, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = pi_cfg("PI_JOB_QUEUE_LEASE = 17\n")
    show = ["config", "show"]
    args = {
        "before": ["--config", file, *show],
        "after": [*show, "--config", file],
        "joined": [*show, f"--config={file}"],
    }
    if place == "variable":
        monkeypatch.setenv("PRIVACYIDEA_CONFIGFILE", file)
    if place == "working directory":
        os.rename(file, "pi.cfg")
    result = run(*args.get(place, show))
    assert result.code == 0 and "PI_JOB_QUEUE_LEASE = 17\n" in result.out


# -- exit codes ------------------------------------------------------------------------------------------------------


def test_help_and_version_are_no_failure(run: Run) -> None:
    assert run("--help").code == run("-h").code == run("config", "--help").code == run("--version").code == 0
    assert run("--version").out.startswith("pijobs ")


@pytest.mark.parametrize(
    "args", [["no-such-command"], ["status", "--no-such-option"], ["config", "no-such"], ["jobs", "show"], []]
)
def test_wrong_usage_is_2(run: Run, args: list[str]) -> None:
    assert run(*args).code == 2


def test_a_missing_pi_cfg_is_2(run: Run, tmp_path: Path) -> None:
    result = run("status", "--config", str(tmp_path / "none.cfg"))
    assert result.code == 2 and result.err.startswith(f"pijobs: {tmp_path / 'none.cfg'}: expected a readable file")


def test_a_pi_cfg_that_raises_is_2_with_file_and_line(run: Run, pi_cfg: Write) -> None:
    file = pi_cfg("\nA = 1 / 0\n")
    result = run("config", "show", "--config", file)
    assert (result.code, result.out) == (2, "") and f"{file}:3: expected settings" in result.err


def test_each_wrong_setting_has_a_line_with_the_value_that_was_found(run: Run, pi_cfg: Write) -> None:
    lines = ["PI_JOB_QUEUE_LEASE = 12345678", "PI_JOB_QUEUE_NAMES = 'x'", "PI_JOB_QUEUE_KEYS = 's3cr3t'"]
    result = run("config", "check", "--config", pi_cfg("\n".join(lines)))
    assert result.code == 2 and len(result.err.splitlines()) == 3
    assert "found 12345678" in result.err and "did you mean PI_JOB_QUEUE_NAME?" in result.err
    assert "s3cr3t" not in result.err


@pytest.mark.parametrize("command", [["status"], ["jobs", "list"], ["workers"], ["worker"]])
def test_no_queue_configured_is_2(run: Run, pi_cfg: Write, command: list[str]) -> None:
    result = run(*command, "--config", pi_cfg(""))
    assert result.code == 2 and "PI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'" in result.err


@pytest.mark.parametrize("command", [["status"], ["config", "check"]])
def test_an_unreachable_storage_is_3(run: Run, pi_cfg: Write, command: list[str]) -> None:
    result = run(*command, "--config", pi_cfg(QUEUE + "PI_JOB_QUEUE_URL = 'redis://:s3cr3t@127.0.0.1:1/0'\n"))
    assert result.code == 3 and "s3cr3t" not in result.out + result.err


@pytest.mark.parametrize("command", [["config", "check"], ["worker"]])
def test_a_broken_plugin_is_4_for_those_that_run_jobs(run: Run, pi_cfg: Write, command: list[str]) -> None:
    plugins = "PI_JOB_QUEUE_PLUGINS = ['broken.good', 'broken.import_error', 'broken.unknown_hook']\n"
    result = run(*command, "--config", pi_cfg(QUEUE + plugins))
    assert result.code == 4
    told = [line for line in result.err.splitlines() if line.startswith("pijobs: ")]
    assert "broken.import_error" in told[0] and "broken.unknown_hook" in told[1]


def test_an_unknown_instance_is_1(run: Run, pi_cfg: Write, tmp_path: Path) -> None:
    file = pi_cfg(QUEUE + f"PI_JOB_QUEUE_URL = 'sqlite:///{tmp_path}/queue.sqlite'\n")
    result = run("jobs", "retry", "nosuch", "--config", file)
    assert result.code == 1 and "there is no job instance 'nosuch'" in result.err


# -- commands of plugins ---------------------------------------------------------------------------------------------


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch, install: Install) -> str:
    """A line of ``pi.cfg`` that allows the sample plugin, which is installed."""
    monkeypatch.syspath_prepend(PLUGINS / "sample")
    install("pijobs-sample", sample="pijobs_sample")
    return "PI_JOB_QUEUE_PLUGINS = ['sample']\n"


@pytest.mark.parametrize("before", [True, False])
def test_a_plugin_that_the_named_pi_cfg_allows_gives_its_command(
    run: Run, pi_cfg: Write, sample: str, tmp_path: Path, before: bool
) -> None:
    (tmp_path / "greetings.txt").write_text("Hello, Ann!\n")
    config, command = ["--config", pi_cfg(sample)], ["greetings", "greetings.txt"]
    result = run(*(config + command if before else command + config))
    assert (result.code, result.out) == (0, "Hello, Ann!\n")


def test_help_lists_the_commands_of_plugins(run: Run, pi_cfg: Write, sample: str) -> None:
    assert "greetings" in run("--help", "--config", pi_cfg(sample)).out


def test_a_plugin_that_is_not_allowed_gives_no_command(run: Run, pi_cfg: Write, sample: str) -> None:
    assert run("greetings", "x", "--config", pi_cfg("")).code == 2


def test_a_plugin_can_not_replace_a_command_of_pijobs(run: Run, pi_cfg: Write, add_module: AddModule) -> None:
    source = "from pijobs import hookimpl\n\n@hookimpl\ndef register_commands(cli):\n"
    source += "    @cli.command('config')\n    def config():\n        print('taken over')\n"
    file = pi_cfg(f"PI_JOB_QUEUE_PLUGINS = ['{add_module('takes_over', source)}']\n")
    result = run("--help", "--config", file)
    assert "a plugin gives a command named 'config'; pijobs' own one stays" in result.err
    assert "taken over" not in run("config", "show", "--config", file).out


def test_a_plugin_whose_commands_fail_does_not_stop_the_others(
    run: Run, pi_cfg: Write, add_module: AddModule, sample: str, tmp_path: Path
) -> None:
    source = "from pijobs import hookimpl\n\n@hookimpl\ndef register_commands(cli):\n    raise OSError\n"
    name = add_module("fails_to_command", source)
    (tmp_path / "greetings.txt").write_text("Hello!\n")
    file = pi_cfg(f"PI_JOB_QUEUE_PLUGINS = ['{name}', 'sample']\n")
    assert run("greetings", "greetings.txt", "--config", file).out == "Hello!\n"


# -- the commands as they are installed ------------------------------------------------------------------------------


def test_the_worker_s_own_name_is_the_worker_command(run: Run, pi_cfg: Write) -> None:
    file = pi_cfg("")
    for args in (["--config", file], [f"--config={file}"], ["-w", "2", "--config", file]):
        result = run(*args, command=worker_main)
        assert result.code == 2 and result.err.startswith("privacyidea-queue-huey: expected a queue to work on")
    assert "--worker-type" in run("--help", command=worker_main).out


def test_python_m_pijobs_is_pijobs(pi_cfg: Write) -> None:
    file = pi_cfg("PI_JOB_QUEUE_LEASE = 0\n")
    args = [sys.executable, "-m", "pijobs", "config", "show", "--json", "--config", file]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "pijobs: PI_JOB_QUEUE_LEASE: expected a number of seconds from 1 to 3600, found 0\n"


def test_json_is_all_that_stands_on_standard_output(run: Run, pi_cfg: Write) -> None:
    file = pi_cfg("PI_JOB_QUEUE_PLUGINS = ['broken.good', 'broken.import_error']\n")
    os.chmod(file, 0o644)
    for command in (["config", "show", "--json"], ["plugins", "--json"]):
        result = run(*command, "--config", file)
        assert json.loads(result.out)
    assert "readable by all" in result.err


def test_a_pause_asks_first_and_wants_a_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tmp_path / "pi.cfg"
    config.write_text(
        f"SECRET_KEY = '{'x' * 32}'\nPI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'\nPI_JOB_QUEUE_PLUGINS = ()\n"
        f"PI_JOB_QUEUE_URL = 'sqlite:///{tmp_path}/queue.sqlite'\n"
    )
    config.chmod(0o600)
    command = ["--config", str(config), "pause"]
    refused = CliRunner().invoke(cli, command, input="n\n")
    assert refused.exit_code == 1 and "is paused" not in refused.output
    assert "expire meanwhile" in refused.output
    done = CliRunner().invoke(cli, command, input="y\nmoving house\n")
    assert done.exit_code == 0 and "the queue is paused" in done.output
    assert CliRunner().invoke(cli, [*command, "smtp:main", "--yes", "--reason", "too many"]).exit_code == 0
    assert "the queue is paused by " in caplog.text and ": moving house" in caplog.text
    assert "group smtp:main is paused by " in caplog.text and ": too many" in caplog.text
    for look in (["status"], ["groups"], ["config", "check"]):
        told = CliRunner().invoke(cli, ["--config", str(config), *look]).output
        assert f"paused by {who()} at 20" in told or f"waiting), by {who()} at 20" in told, look
        assert ": too many" in told and (look == ["groups"] or ": moving house" in told), look
