"""An example passes its own tests, installed as a real distribution."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("example", sorted(path.parent.name for path in EXAMPLES.glob("*/tests")))
def test_its_tests_pass(example: str, tmp_path: Path) -> None:
    source = tmp_path / example
    shutil.copytree(EXAMPLES / example, source, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    # As in a clone, whose settings of pytest are not the example's.
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = ["--strict-config"]\nfurther = 1\n')
    packages = tmp_path / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(packages), str(source)], check=True, timeout=120)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=source, env={**environment, "PYTHONPATH": str(packages)}, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_webhook_is_short() -> None:
    source = EXAMPLES / "webhook/src/pijobs_webhook/__init__.py"
    assert len(source.read_text().splitlines()) < 150
