"""A run of the tests tells what it did not test, and which programs it needs."""

from __future__ import annotations

import subprocess

import pytest
from programs import TABLE, find, row
from services import program
from truth import ALLOWED_SKIPS


@pytest.mark.parametrize(
    ("reason", "required", "end"),
    [
        ("no time today", "1", "1 failed"),
        ("no time today", "", "1 skipped"),
        (next(iter(ALLOWED_SKIPS)), "1", "1 skipped"),
    ],
)
@pytest.mark.parametrize("place", ["test", "module"])
def test_a_skip_fails_where_all_services_are_required(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, place: str, reason: str, required: str, end: str
) -> None:
    skip = f"import pytest\n{{}}pytest.skip({reason!r}, allow_module_level=True)\n"
    pytester.makepyfile(skip.format("def test_it():\n    " if place == "test" else ""))
    monkeypatch.setenv("PIJOBS_REQUIRE_SERVICES", required)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    done = pytester.runpytest_inprocess("-p", "truth")
    expected = end.replace("failed", "error") if place == "module" else end
    assert expected in done.stdout.str()


def test_a_program_outside_the_table_can_not_be_started_or_asked_for() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"add a row to tests/programs\.py"):
        subprocess.run(["/usr/bin/factor", "6"], check=True)
    with pytest.raises(pytest.fail.Exception, match=r"add a row to tests/programs\.py"):
        program("factor")


def test_a_program_of_the_table_is_found_by_each_of_its_names() -> None:
    bash = row("bash")
    assert bash is not None and find(bash) == program("bash")
    assert row("valkey-server") is row("redis-server")
    assert len({each.name for each in TABLE}) == len(TABLE)
