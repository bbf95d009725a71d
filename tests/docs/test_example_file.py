"""``pi.cfg.example`` is what the tables of settings say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from example_file import example
from from_code import tables

ROOT = Path(__file__).parents[2]
SETTINGS = [setting for table in tables().values() for setting in table]


def test_the_file_is_up_to_date() -> None:
    assert (ROOT / "pi.cfg.example").read_text() == example(), "run 'make example'"


def test_the_bundled_plugins_are_in_it() -> None:
    assert {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")} == {
        owner.removeprefix("plugin ") for owner in tables() if owner != "core"
    }


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: str(setting.name))
def test_a_line_that_is_taken_into_use_is_valid(setting: object) -> None:
    name = setting.name  # type: ignore[attr-defined]
    line = re.search(rf"^#({name} = .*)$", (ROOT / "pi.cfg.example").read_text(), re.MULTILINE)
    assert line is not None
    values: dict[str, object] = {}
    exec(line[1], values)
    assert values[name] is None or setting.fault(values[name]) is None  # type: ignore[attr-defined]


def test_the_file_as_it_is_leaves_the_queue_off() -> None:
    values: dict[str, object] = {}
    exec((ROOT / "pi.cfg.example").read_text(), values)
    assert not [name for name in values if name.isupper()]
