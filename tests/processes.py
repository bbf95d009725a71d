"""Programs that run at the same moment, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack


def run_at_once(*programs: list[str]) -> None:
    """Start Python programs, each a text with its arguments, and let them go on together; none may fail.

    Each prints a line when it is ready, and then waits for the end of its input.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with ExitStack() as stack:
        processes = []
        for program in programs:
            process = subprocess.Popen(
                [sys.executable, "-c", *program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        assert [process.communicate()[1] for process in processes] == [""] * len(programs)
