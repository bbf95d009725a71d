"""What is not needed is not imported; ``make lint`` holds the other imports to the levels of the house."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What takes long to import.
SLOW = {"flask", "huey", "sqlalchemy", "pijobs_mail"}
#: What only who sends by HTTP needs.
HTTP = {"httpx", "httpcore"}
BUILD = (
    "import pijobs; from pijobs.factory import build;"
    "build({'SECRET_KEY': 's', 'PI_JOB_QUEUE_CLASS': 'pijobs.HueyQueue', 'PI_JOB_QUEUE_PLUGINS': ()})"
)
COMMAND = "import pijobs.cli.main, pijobs.cli.status, pijobs.cli.jobs"


@pytest.mark.parametrize(
    ("program", "slow"),
    [(BUILD, SLOW), (COMMAND, SLOW), ("import pijobs_sms.plugin", HTTP)],
    ids=["a queue on Redis", "a command", "a plugin that is not used yet"],
)
def test_what_is_slow_and_not_needed_is_not_imported(program: str, slow: set[str]) -> None:
    command = [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not slow & set(done.stdout.split())


def test_the_core_names_no_plugin() -> None:
    core = [path for path in (ROOT / "src").rglob("*.py") if "pijobs_mail" in path.read_text()]
    assert core == []


SOURCES = [*(ROOT / "src").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")]


def test_no_module_is_longer_than_300_lines_and_no_function_than_30() -> None:
    modules = {path.name: lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 300}
    functions = {
        f"{path.name}: {node.name}": lines
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (lines := lines_of(node)) > 30
    }
    assert (modules, functions) == ({}, {})


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Without its signature and its docstring."""
    body = function.body if ast.get_docstring(function) is None else function.body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
