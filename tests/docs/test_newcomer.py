"""The newcomer's path, typed as the page says, with pijobs installed as a wheel and nothing else of this repository.

Nothing is there that pijobs or its plugin's tests do not declare, and no index is asked.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from environments import bare_environment
from services import program, wait_until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial/new-plugin.md").read_text()
COMMANDS = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
CHANGES = re.findall(r"^```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


class Newcomer:
    """Somebody with a shell, and an environment in which the dependencies of pijobs are there but not pijobs."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.bin = folder / "env/bin"
        self.output = folder / "output"
        self.port = _free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.home.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            (self.home / "pijobs").mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.home / "pijobs")
        skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / "src", self.home / "pijobs/src", ignore=skip)
        bare_environment(folder, "pijobs[dev]", "pip", "pytest", "setuptools")
        # Without an index: what pip would bring is there.
        self._script("pip", '-m pip "$@" --quiet --no-deps --no-index --no-build-isolation')
        self._script("pytest", '-m pytest "$@"')
        # One shell for all: it keeps the folder and the variables.
        self.shell = subprocess.Popen(
            ["bash"], cwd=self.home, env=self._variables(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.output.open("ab"), text=True, start_new_session=True,
        )  # fmt: skip

    def _script(self, name: str, arguments: str) -> None:
        script = self.bin / name
        script.write_text(f'#!/bin/sh\nexec "{self.bin}/python" {arguments}\n')
        script.chmod(0o755)

    def _variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        return {**kept, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}

    def type(self, command: str) -> str:
        """Do what the page says; what is printed."""
        command = command.replace("5000", str(self.port))
        if command.startswith("pijobs dev"):  # a terminal of its own
            terminal = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.home / "pijobs-weather", env=self._variables(),
                stdout=self.output.open("ab"), stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            self.processes.append(terminal)
            return ""
        assert self.shell.stdin is not None and self.shell.stdout is not None
        self.shell.stdin.write(f"{command}\nCODE=$?; echo; echo END $CODE\n")
        self.shell.stdin.flush()
        lines: list[str] = []
        for line in self.shell.stdout:
            if line.startswith("END "):
                assert line == "END 0\n", f"{command}: {''.join(lines)}{self.output.read_text()}"
                break
            lines.append(line)
        return "".join(lines)

    def close(self) -> None:
        everything: list[subprocess.Popen[Any]] = [*self.processes, self.shell]
        for process in everything:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for pipe in (self.shell.stdin, self.shell.stdout):
            if pipe is not None:
                pipe.close()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    program("curl")  # the page uses it
    newcomer = Newcomer(tmp_path)
    yield newcomer
    newcomer.close()


def change(plugin: Path) -> None:
    """The two changes that the page tells."""
    function, expectation = CHANGES
    for file, old, new in (
        (plugin / "src/pijobs_weather/__init__.py", '        file.write(f"{text}\\n")\n', function),
        (plugin / "tests/test_weather.py", '    assert file.read_text() == "hello\\n"\n', expectation),
    ):
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


def test_ten_commands_at_most() -> None:
    assert 5 < len(COMMANDS) <= 10


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the outputs of processes; they end with them
def test_from_nothing_to_a_job_in_server_and_worker(newcomer: Newcomer) -> None:
    plugin = newcomer.home / "pijobs-weather"
    for command in COMMANDS:
        if "curl" in command:
            wait_until(lambda: _listens(newcomer.port), what="the server")
        answer = newcomer.type(command)
        if command.startswith("cd "):
            change(plugin)
        if command == "pytest":
            assert "4 passed" in answer, answer
    assert '"state":"queued"' in answer.replace(" ", "")
    written = plugin / "weather.txt"
    wait_until(lambda: written.exists() and written.read_text() == "BRING AN UMBRELLA!\n", what="the job")
    done = re.compile(r"job weather\.write \w+: running -> done")
    wait_until(lambda: done.search(newcomer.output.read_text()) is not None, what="its end")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
