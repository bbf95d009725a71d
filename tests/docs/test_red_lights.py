"""The page that says what to do about each red light names all of them, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from pijobs.observe.checks import TABLE

PAGE = Path(__file__).parents[2] / "docs/how-to/run-it-for-a-year.md"


def test_each_check_has_its_remedy() -> None:
    rows = re.findall(r"^\| (`.+?) \|", PAGE.read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(TABLE)
