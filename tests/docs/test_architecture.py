"""The page on the architecture draws the rooms as import-linter holds them, and each place that it names is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from importlinter.api import read_configuration

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/architecture.md").read_text()


def test_the_drawing_shows_the_rooms_that_the_linter_keeps() -> None:
    drawing = PAGE.split("```text\n")[1].split("```")[0]
    drawn = [re.split(r" {5,}", line.strip())[0].split() for line in drawing.splitlines()]
    contracts = read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert drawn == [re.findall(r"\w+", layer) for layer in layers]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(pijobs(?:_mail)?\.[\w.]+)`", PAGE))))
def test_each_place_is_there(name: str) -> None:
    assert found(name)


def found(name: str) -> Any:
    """The module, class, function or attribute of a dotted name."""
    module = name
    rest: list[str] = []
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
