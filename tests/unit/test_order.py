"""Slow tests begin first, and no two processes make what the tests of a module share."""

from __future__ import annotations

import order
import pytest

SOURCE = """
import pytest

@pytest.fixture(scope="module")
def shared(): ...
def test_quick(): ...
def test_one(shared): ...
def test_slow(): ...
def test_other(shared): ...
"""


@pytest.mark.parametrize(
    ("how", "expected"),
    [("", ["slow", "one", "other", "quick"]), ("reversed", ["quick", "other", "one", "slow"])],
)
def test_units_come_by_their_seconds(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, how: str, expected: list[str]
) -> None:
    durations = pytester.path / "durations.json"
    durations.write_text('{"test_it.py::test_slow": 9, "test_it.py::test_one": 2, "test_it.py::test_other": 3}')
    monkeypatch.setattr(order, "FILE", durations)
    monkeypatch.setenv("PIJOBS_TEST_ORDER", how)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(test_it=SOURCE)
    done = pytester.runpytest_inprocess("-p", "order", "--collect-only", "-q")
    assert [line.rpartition("test_")[2] for line in done.outlines if "::" in line] == expected
