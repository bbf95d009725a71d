"""Programs that run at the same moment, each in a process of its own."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from preloaded import Programs
from services import wait_until
from shared import server

TIMEOUT = 120.0


def run_at_once(*programs: list[str]) -> None:
    """Start Python programs, each a text with its arguments, and let them go on together; none may fail.

    Each prints a line when it is ready, and then waits for the end of its input.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    starter = Programs(Path(server("programs")))
    with tempfile.TemporaryDirectory(prefix="pijobs-") as name, ExitStack() as stack:
        folder, processes = Path(name), []
        logs = [folder / f"log{number}" for number in range(len(programs))]
        os.mkfifo(folder / "input")
        # The only writer: when it goes, the input of all ends.
        with os.fdopen(os.open(folder / "input", os.O_RDWR), "rb+", buffering=0):
            for log, (text, *arguments) in zip(logs, programs, strict=True):
                script = log.with_suffix(".py")
                script.write_text(text)
                process = starter.start([str(script), *arguments], environment, Path(), log, folder / "input")
                stack.callback(process.kill)
                processes.append(process)
            wait_until(lambda: all(map(_said, logs)), TIMEOUT, what="the start of all programs")
        ends = [(process.wait(TIMEOUT), log.read_text()) for process, log in zip(processes, logs, strict=True)]
        assert ends == [(0, "ready\n")] * len(programs)


def _said(log: Path) -> bool:
    return log.exists() and "\n" in log.read_text()
