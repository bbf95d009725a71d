"""The page on the architecture draws the rooms as import-linter holds them, and each place that it names is there."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/architecture.md").read_text()


def test_the_drawing_shows_the_rooms_that_the_linter_keeps() -> None:
    drawing = PAGE.split("```text\n")[1].split("```")[0]
    drawn = [re.split(r" {5,}", line.strip())[0].split() for line in drawing.splitlines()]
    [contract] = [
        contract
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    assert drawn == [re.findall(r"\w+", layer) for layer in contract["layers"]]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(pijobs(?:_mail)?\.[\w.]+)`", PAGE))))
def test_each_place_is_there(name: str) -> None:
    assert found(name)


def found(name: str) -> Any:
    """The module, class, function or attribute of a dotted name."""
    module, rest = name, []
    while True:
        try:
            value = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
    for part in rest:
        value = getattr(value, part)
    return value
