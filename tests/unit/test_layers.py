"""The house stands: imports point only downwards, and what is not needed is not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_contract_of_the_house_is_kept() -> None:
    pytest.importorskip("importlinter", reason="the linters are in an environment with pijobs[lint]")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("unwanted", ["sqlalchemy", "flask", "pijobs_mail"])
def test_a_queue_on_redis_does_not_import(unwanted: str) -> None:
    program = (
        "import sys, pijobs; from pijobs.factory import build;"
        "build({'SECRET_KEY': 's', 'PI_JOB_QUEUE_CLASS': 'pijobs.HueyQueue', 'PI_JOB_QUEUE_PLUGINS': ()});"
        f"sys.exit({unwanted!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_the_core_names_no_plugin() -> None:
    core = [path for path in (ROOT / "src").rglob("*.py") if "pijobs_mail" in path.read_text()]
    assert core == []
