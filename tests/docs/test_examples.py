"""An example passes its own tests, as somebody runs them who copied its folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from services import PROGRAM

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("example", sorted(path.parent.name for path in EXAMPLES.glob("*/tests")))
def test_its_tests_pass(example: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=EXAMPLES / example,
        env={**environment, "PYTHONPATH": "src"}, capture_output=True, text=True, timeout=PROGRAM,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
