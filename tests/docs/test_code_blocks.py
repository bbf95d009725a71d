"""Every block of Python in the docs runs; one that shows settings shows valid ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from from_code import tables

from pijobs.settings import Settings, validate

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> Iterator[object]:
    """Each block with its page and line."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            name = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}"
            yield pytest.param(match[1], id=name)


BLOCKS = list(blocks())


@pytest.mark.parametrize("source", BLOCKS)
def test_it_runs(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples/greeting/src")
    (tmp_path / "pi.cfg").write_text("SECRET_KEY = 'for the docs'\n")
    exec(
        compile(source, "block", "exec", dont_inherit=True), {"__name__": "block", "__file__": str(tmp_path / "block")}
    )


@pytest.mark.parametrize("source", [block for block in BLOCKS if "PI_JOB_QUEUE_" in block.values[0]])  # type: ignore[attr-defined]
def test_its_settings_are_valid(source: str) -> None:
    names = dict(re.findall(r"^((?:PI|SECRET|SQLALCHEMY)_[A-Z_]+) = (.*)$", source, re.MULTILINE))
    values = {name: eval(value) for name, value in names.items()}
    table = [setting for part in tables().values() for setting in part]
    assert isinstance(validate(values, table), Settings)
