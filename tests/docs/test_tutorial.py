"""The tutorial, done word by word: its commands in their order, its plugin installed as a real distribution."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import PROGRAM, free_port, wait_until

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
        self.port = free_port()
        self.worker: subprocess.Popen[bytes] | None = None
        self.app: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.packages), "PYTHONWARNINGS": "default"}

    def type(self, command: str) -> None:
        """Do what the page says."""
        program, *arguments = shlex.split(command.replace("5000", str(self.port)))
        if program == "pip":
            # To a folder beside, and without an index: tests must not change the environment that they run in.
            source = shutil.copytree(ROOT / arguments[-1], self.packages / "source" / Path(arguments[-1]).name)
            options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(self.packages)]
            self.run([sys.executable, "-m", "pip", "install", *options, str(source)])
        elif command == WORKER:
            pijobs = [sys.executable, "-m", "pijobs", *arguments]
            self.worker = subprocess.Popen(pijobs, cwd=self.folder, env=self.environment())
        elif program == "flask":
            self.app = subprocess.Popen(
                [sys.executable, "-m", "flask", *arguments], cwd=self.folder, env=self.environment(),
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            wait_until(self.listens, what="the application")
        elif program == "pijobs":
            self.output[command] = self.run([sys.executable, "-m", "pijobs", *arguments])
        else:
            self.run([program, *arguments])

    def listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=PROGRAM
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """The reader, with the ``pi.cfg`` of the page."""
    folder, packages = tmp_path / "folder", tmp_path / "packages"
    folder.mkdir()
    packages.mkdir()
    for name in ("pi.cfg", "app.py"):
        shutil.copy(ROOT / "examples/greeting" / name, folder)
    reader = Reader(folder, packages)
    yield reader
    for process in (reader.worker, reader.app):
        if process is not None:
            process.kill()
            process.wait()


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
    wait_until(lambda: greetings.exists() and greetings.read_text() == "Hello Ada!\n", what="the greeting")
    (dead,) = (command for command in after if command.startswith("pijobs"))

    def told() -> bool:
        reader.type(dead)
        return "expected somebody to greet" in reader.output[dead]

    wait_until(told, what="the dead letter")
    for command in after[after.index(dead) + 1 :]:
        reader.type(command)
    wait_until(lambda: greetings.read_text() == "Hello Ada!\nHello Grace!\n", what="the greeting by the application")
    reader.worker.send_signal(signal.SIGINT)
    assert reader.worker.wait(120) == 0


def test_the_tests_of_the_page_on_testing_pass_as_they_are_printed(reader: Reader) -> None:
    page = (ROOT / "docs/how-to/test-a-plugin.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for number, block in enumerate(blocks):
        (reader.folder / f"test_page_{number}.py").write_text(block)
    reader.type("pip install ./examples/greeting")
    said = reader.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"])
    assert "5 passed" in said, said
