"""A few thousand hostile inputs in each run of the tests; ``make hostile`` plays as many as you like."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostile.hunt import hunt

SEED = 20261129


def test_no_hostile_input_is_answered_by_what_nobody_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = hunt(3000, SEED, tmp_path)
    capsys.readouterr()
    assert found.faults == []
    assert sum(found.inputs.values()) == 3000
