"""The tutorial, done word by word: its commands in their order, its plugin installed as a real distribution."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import wait_until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial/first-job.md").read_text()
COMMANDS = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
WORKER = "pijobs worker"


class Reader:
    """Somebody who follows the tutorial in an empty folder, with an environment of their own."""

    def __init__(self, folder: Path, packages: Path) -> None:
        self.folder = folder
        self.packages = packages
        self.output: dict[str, str] = {}
        self.worker: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.packages), "PYTHONWARNINGS": "default"}

    def type(self, command: str) -> None:
        """Do what the page says."""
        program, *arguments = shlex.split(command)
        if program == "pip":
            # To a folder beside, and without an index: tests must not change the environment that they run in.
            source = shutil.copytree(ROOT / arguments[-1], self.packages / "source" / Path(arguments[-1]).name)
            options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(self.packages)]
            self.run([sys.executable, "-m", "pip", "install", *options, str(source)])
        elif command == WORKER:
            pijobs = [sys.executable, "-m", "pijobs", *arguments]
            self.worker = subprocess.Popen(pijobs, cwd=self.folder, env=self.environment())
        elif program == "pijobs":
            self.output[command] = self.run([sys.executable, "-m", "pijobs", *arguments])
        else:
            self.run([program, *arguments])

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """The reader, with the ``pi.cfg`` of the page."""
    folder, packages = tmp_path / "folder", tmp_path / "packages"
    folder.mkdir()
    packages.mkdir()
    shutil.copy(ROOT / "examples/greeting/pi.cfg", folder)
    reader = Reader(folder, packages)
    yield reader
    if reader.worker is not None and reader.worker.poll() is None:
        reader.worker.kill()
        reader.worker.wait()


def test_the_tutorial_works_as_it_stands(reader: Reader) -> None:
    before, after = COMMANDS[: COMMANDS.index(WORKER)], COMMANDS[COMMANDS.index(WORKER) + 1 :]
    for command in before:
        reader.type(command)
    plugins = re.search(r"```text\n(greeting: .*?)```", PAGE, re.DOTALL)
    assert plugins is not None
    assert plugins[1] in reader.output["pijobs plugins"]
    assert reader.output["pijobs jobs list --state queued"].count("greeting.write") == 2

    reader.type(WORKER)
    assert reader.worker is not None
    greetings = reader.folder / "greetings.txt"
    wait_until(lambda: greetings.exists() and greetings.read_text() == "Hello Ada!\n", 30, what="the greeting")
    dead = after[-1]

    def told() -> bool:
        reader.type(dead)
        return "expected somebody to greet" in reader.output[dead]

    wait_until(told, 30, what="the dead letter")
    reader.worker.send_signal(signal.SIGINT)
    assert reader.worker.wait(20) == 0
