"""Time is handed in: what asks this host for it, sleeps or makes a thread is refused by ruff, in all that we ship."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("src/pijobs", *(str(path.relative_to(ROOT)) for path in ROOT.glob("plugins/*/src/*") if path.is_dir()))
#: Each way round the rule, as one line.
WAYS = (
    "import time",
    "import time as t",
    "from time import monotonic",
    "from time import sleep as rest",
    "from threading import Event",
    "import threading as t",
    "import _thread",
    "from concurrent.futures import ThreadPoolExecutor",
    "from multiprocessing.pool import ThreadPool",
    "import sched",
    "from datetime import date; date.today()",
    "import datetime as d; d.datetime.now()",
    "from asyncio import sleep as rest; rest(1)",
    "from asyncio import to_thread as aside; aside(print)",
)
#: What may have a name of its own elsewhere; of the rest a simulation would not hear.
FREE = {"to_ms", "Clock", "SystemClock"}


@pytest.mark.slow  # ruff is in the environment of the linters alone
@pytest.mark.parametrize("package", [package for package in SHIPPED if not package.endswith(".egg-info")])
def test_each_way_round_the_rule_is_refused(package: str) -> None:
    lines = "\n".join(WAYS)
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--no-cache", "--output-format", "concise",
               "--stdin-filename", f"{package}/somewhere.py", "-"]  # fmt: skip
    told = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=ROOT).stdout
    refused = {int(line.split(":")[1]) for line in told.splitlines() if " TID251 " in line}
    assert [way for number, way in enumerate(WAYS, 1) if number not in refused] == []


def _modules() -> list[tuple[Path, ast.Module]]:
    files = [path for package in SHIPPED for path in sorted((ROOT / package).rglob("*.py"))]
    return [(path, ast.parse(path.read_text())) for path in files if "new_plugin/template" not in str(path)]


def test_the_clock_and_the_threads_are_called_by_their_modules() -> None:
    found = []
    for path, module in _modules():
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom) and node.module in ("pijobs.base.clock", "pijobs.base.threads"):
                found += [f"{path}: {name.name}" for name in node.names if name.name not in FREE]
    assert found == []
