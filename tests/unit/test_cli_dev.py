"""``pijobs dev``, ``pijobs shell`` and ``pijobs completion``."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pijobs.base import processes
from pijobs.cli import dev
from pijobs.cli.invocation import Invocation, load_app
from pijobs.errors import ConfigurationError
from pijobs.factory import configure
from pijobs.plugins.loading import Plugins
from pijobs.settings import CORE_SETTINGS, Settings, validate

from .test_cli_app import shop
from .test_cli_main import Run, Write, _fresh_commands, pi_cfg, run

__all__ = ["_fresh_commands", "pi_cfg", "run", "shop"]


class Program:
    """What :class:`subprocess.Popen` starts, without a process."""

    started: list[Program]

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.name, self.environment = command[0], env
        self.returncode: int | None = None
        self.signals: list[int] = []
        Program.started.append(self)

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        self.signals.append(signal.SIGTERM)

    def kill(self) -> None:
        self.signals.append(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> None:
        if self.name == "stubborn" and timeout is not None:
            raise subprocess.TimeoutExpired(self.name, timeout)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Program]:
    Program.started = []
    monkeypatch.setattr("subprocess.Popen", Program)
    return Program.started


def test_a_change_starts_server_and_worker_anew(started: list[Program]) -> None:
    told: list[str] = []
    development = dev.Development({"server": ["s"], "worker": ["w"]}, {"A": "1"}, told.append)
    development.run([[], ["tasks.py", "x.py"]])
    assert [program.name for program in started] == ["s", "w", "s", "w"] and started[0].environment["A"] == "1"
    assert told == ["dev: tasks.py and 1 more changed; server and worker restart"]
    # A worker ends at once by a second signal.
    assert [program.signals for program in started] == [[signal.SIGTERM]] * 4


def test_a_process_that_ends_by_itself_is_told_once_and_starts_with_the_next_change(started: list[Program]) -> None:
    told: list[str] = []

    def changes() -> Any:
        started[0].returncode = 1
        yield from ([], [], ["app.py"])

    dev.Development({"server": ["s"]}, {}, told.append).run(changes())
    assert told[0] == "dev: the server ended with exit code 1; it starts with the next change"
    assert len(told) == 2 and [program.name for program in started] == ["s", "s"]


def test_ctrl_c_reaches_all_by_itself_and_is_no_second_signal(
    started: list[Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    def changes() -> Any:
        started[0].returncode = -2
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(dev, "_ALL_END_WITHIN", 0)
    dev.Development({"server": ["s"], "worker": ["w"]}, {}, print).run(changes())
    assert [program.signals for program in started] == [[], [signal.SIGTERM]]


def test_what_does_not_end_is_killed(started: list[Program]) -> None:
    processes.end(subprocess.Popen(["stubborn"], env={}), subprocess.Popen(["other"], env={}))
    assert [program.signals for program in started] == [[signal.SIGTERM, signal.SIGKILL], [signal.SIGTERM]]


def test_an_app_is_served_by_flask_and_a_pi_cfg_by_pijobs(core_settings: Settings) -> None:
    of_app = dev.server_command(Invocation(), "shop:create_app", "::1", 5001)
    assert of_app[1:6] == ["-m", "flask", "--app", "shop:create_app", "run"] and "--no-reload" in of_app
    assert dev.server_command(Invocation("a.cfg"), None, "::1", 5001)[1:6] == [
        "-m",
        "pijobs",
        "--config",
        "a.cfg",
        "server",
    ]
    assert dev.worker_command(Invocation("a.cfg"), "shop", core_settings)[3:] == [
        "--config", "a.cfg", "--app", "shop", "worker", "--simple", "-l", "-", "-t", "2",
    ]  # fmt: skip


def test_a_worker_whose_log_is_configured_is_not_told_where_to_log(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text("{}")
    settings = validate({"SECRET_KEY": "s", "PI_LOGCONFIG": str(tmp_path / "log.json")}, CORE_SETTINGS)
    assert dev.worker_command(Invocation(), "shop", settings)[-3:] == ["worker", "-t", "2"]


@contextmanager
def _stand_in() -> Any:
    yield {"PI_JOB_QUEUE_NAME": "elsewhere"}


def test_what_takes_the_place_of_destinations_is_told_by_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugins, "call", lambda self, hook, **_: [("mail", _stand_in())] if hook == "stand_in" else [])
    with ExitStack() as cleanup:
        assert dev.stand_ins(Plugins(()), cleanup, print) == {"PI_JOB_QUEUE_NAME": "elsewhere"}


def test_these_settings_win(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"SECRET_KEY": "s", "PI_JOB_QUEUE_NAME": "here", "PI_JOB_QUEUE_PLUGINS": []}
    monkeypatch.setenv("PIJOBS_STAND_INS", '{"PI_JOB_QUEUE_NAME": "elsewhere"}')
    assert configure(values).settings["PI_JOB_QUEUE_NAME"] == "elsewhere"
    monkeypatch.setenv("PIJOBS_STAND_INS", "[1]")
    with pytest.raises(ConfigurationError, match="PIJOBS_STAND_INS: expected a JSON object"):
        configure(values)


def test_dev_without_watchfiles_tells_how_to_get_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, started: list[Program]
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    result = run("dev", "--app", "a_shop")
    assert result.code == 2 and "pip install 'pijobs[dev]'" in result.err
    assert [program.signals for program in started] == [[signal.SIGTERM]] * len(started)


# -- shell -----------------------------------------------------------------------------------------------------------


def test_the_shell_knows_app_queue_and_jobs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("print(app.name, greet.enqueue('x').state, queue.settings.name)\n"))
    assert "a_shop queued privacyidea" in run("shell", "--app", "a_shop").out


def test_the_shell_of_flask_jobs_is_that_of_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    result = load_app("a_shop").test_cli_runner().invoke(args=["jobs", "shell"], input="print(app.name)\n")
    assert result.exit_code == 0 and "a_shop" in result.output


def test_the_shell_needs_no_app(run: Run, pi_cfg: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("print(queue.mode)\n"))
    assert "off" in run("shell", "--config", pi_cfg("SECRET_KEY = 's'\n")).out


# -- completion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_a_shell_is_printed(run: Run, shell: str) -> None:
    assert f"_PIJOBS_COMPLETE={shell}_complete" in run("completion", shell).out


@pytest.mark.parametrize(
    ("typed", "offered"), [("sta", "status"), ("jobs li", "list"), ("--config a.cfg worker --work", "--workers")]
)
def test_commands_and_options_are_completed(
    run: Run, monkeypatch: pytest.MonkeyPatch, typed: str, offered: str
) -> None:
    words = ["pijobs", *typed.split()]
    for name, value in {
        "_PIJOBS_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }.items():
        monkeypatch.setenv(name, value)
    assert f"plain,{offered}" in run().out.splitlines()
