"""The docs as people read them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages of the reference, built as text, by their names."""
    pytest.importorskip("sphinx", reason="the docs are built in an environment with pijobs[docs]")
    built = tmp_path_factory.mktemp("docs")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "-E", "-d", f"{built}/trees", "-b", "text"]
    done = subprocess.run([*sphinx, "docs", str(built)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {page.stem: page.read_text() for page in (built / "reference").glob("*.txt")}
