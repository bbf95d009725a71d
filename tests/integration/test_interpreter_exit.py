"""A first enqueue while the interpreter ends: it is stored, or fails, and never hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from services import PROGRAM

SCRIPT = """
import atexit, os, sys
from contract.workers import new_instance
from pijobs.storage import open_storage
from pijobs.storage.values import Retention

class Last:
    def __init__(self):
        self.storage = open_storage(sys.argv[1], "exit", Retention())
        self.new, self.say = new_instance(), os.write

    def enqueue(self):
        self.say(1, self.storage.enqueue(self.new, timeout=20).state.value.encode())

    def __del__(self):
        try:
            self.enqueue()
        finally:
            self.say(1, b"; the end")

# The interpreter takes away first what begins with one underscore, when threads can't start any more.
_last = Last()
if sys.argv[2] == "atexit":
    atexit.register(_last.enqueue)
"""


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgresql", "mariadb"])
@pytest.mark.parametrize("moment", ["atexit", "finaliser"])
def test_an_enqueue_at_exit_does_not_hang(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, moment: str
) -> None:
    url = f"sqlite:///{tmp_path}/q.sqlite" if kind == "sqlite" else request.getfixturevalue(f"{kind}_url")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, url, moment]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PROGRAM)
    assert done.stdout.endswith("; the end")
    assert moment == "finaliser" or done.stdout.startswith("queued")
