"""``pijobs new-plugin``: what it writes, and what it refuses. That it works is told by tests/docs/test_newcomer.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from services import PROGRAM

from pijobs.cli.main import cli


def new_plugin(folder: Path, name: str) -> Result:
    return CliRunner().invoke(cli, ["new-plugin", name, "--directory", str(folder)])


def test_it_writes_a_whole_package(tmp_path: Path) -> None:
    assert new_plugin(tmp_path, "two_words").exit_code == 0
    folder = tmp_path / "pijobs-two-words"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        ".gitignore",
        "README.md",
        "pi.cfg",
        "pyproject.toml",
        "src/pijobs_two_words/__init__.py",
        "src/pijobs_two_words/py.typed",
        "tests/test_two_words.py",
    }
    assert not [path for path in folder.rglob("*") if path.is_file() and "$" in path.read_text()]
    assert (folder / "pi.cfg").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_what_it_writes_is_clean(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="the linters are in an environment with pijobs[lint]")
    new_plugin(tmp_path, "weather")
    parts = [str(tmp_path / "pijobs-weather" / part) for part in ("src", "tests")]
    for command in (["ruff", "check", "--isolated"], ["ruff", "format", "--isolated", "--check", "--line-length=120"]):
        done = subprocess.run([sys.executable, "-m", *command, *parts], capture_output=True, text=True, timeout=PROGRAM)
        assert done.returncode == 0, done.stdout
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}/cache", *parts]
    done = subprocess.run(mypy, capture_output=True, text=True, timeout=PROGRAM)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Weather", "expected lower-case letters"),
        ("../up", "expected lower-case letters"),
        ("2day", "expected lower-case letters"),
        ("two-words", "joined by underscores"),
        ("weather_", "joined by underscores"),
        ("", "expected lower-case letters"),
        ("a" * 41, "expected lower-case letters"),
        ("class", "a word that Python leaves free"),
        ("status", "no command of pijobs yet"),
        ("mail", "installed already"),
    ],
)
def test_a_name_that_can_not_be_used_is_refused(tmp_path: Path, name: str, told: str) -> None:
    refused = new_plugin(tmp_path, name)
    assert refused.exit_code == 2
    assert told in refused.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    there = tmp_path / "pijobs-weather"
    there.mkdir()
    refused = new_plugin(tmp_path, "weather")
    assert refused.exit_code == 1
    assert "exists already" in refused.output
    assert list(there.iterdir()) == []
