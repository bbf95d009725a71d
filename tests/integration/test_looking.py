"""Commands that only look create no file, and what is created belongs to whoever owns the folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pijobs.base import files
from pijobs.cli.main import cli
from pijobs.errors import PijobsError, StorageUnavailable

NOBODY = 65534
LOOKS = [
    ("config", "check"), ("config", "show"), ("status",), ("status", "--json"), ("jobs", "list"), ("jobs", "show", "x"),
    ("workers",), ("groups",), ("plugins",), ("check",), ("keys", "list"), ("admin", "list"), ("drain",),
    ("statistics", "jobs"), ("mail", "probe", "main"),
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a ``pi.cfg`` that nobody has used yet."""
    (tmp_path / "pi.cfg").write_text(
        f"SECRET_KEY = '{'x' * 32}'\nPI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'\n"
        f"PI_JOB_QUEUE_URL = 'sqlite:///{tmp_path}/queue.sqlite'\nPI_JOB_QUEUE_SPOOL = '{tmp_path}/spool.sqlite'\n"
    )
    (tmp_path / "pi.cfg").chmod(0o600)
    return tmp_path


def pijobs(place: Path, *arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["--config", str(place / "pi.cfg"), *arguments], input=input)


@pytest.mark.parametrize("arguments", LOOKS, ids=" ".join)
def test_a_look_creates_nothing(place: Path, arguments: tuple[str, ...]) -> None:
    done = pijobs(place, *arguments)
    assert done.exception is None or isinstance(done.exception, (SystemExit, PijobsError)), done.exception
    assert [path.name for path in place.iterdir()] == ["pi.cfg"]


def test_what_is_not_there_yet_is_told_as_such(place: Path) -> None:
    done = pijobs(place, "status")
    assert done.exit_code == 0 and "queue.sqlite (not there yet)" in done.output, done.output
    assert "no accounts" in pijobs(place, "admin", "list").output


@pytest.fixture
def service(place: Path) -> Path:
    """The folder of a service, which runs as another user than root."""
    if os.geteuid() != 0:
        pytest.skip("only root creates files for others")
    open_to_all = place
    while stat.S_IMODE(open_to_all.stat().st_mode) & 0o005 != 0o005:
        open_to_all.chmod(open_to_all.stat().st_mode | 0o055)
        open_to_all = open_to_all.parent
    os.chown(place, NOBODY, NOBODY)
    os.chown(place / "pi.cfg", NOBODY, NOBODY)
    place.chmod(0o755)
    return place


def test_what_root_creates_belongs_to_the_owner_of_the_folder(service: Path) -> None:
    assert pijobs(service, "pause", "--yes").exit_code == 0
    done = pijobs(service, "admin", "add", "root", "--password-stdin", input="correct horse battery")
    assert done.exit_code == 0, done.output
    made = {path.name: path.stat() for path in service.iterdir() if path.name != "pi.cfg"}
    assert {"queue.sqlite", "pijobs.sqlite"} <= set(made)
    assert {found.st_uid for found in made.values()} == {NOBODY}
    assert {stat.S_IMODE(found.st_mode) for found in made.values()} == {0o600}


def test_the_advice_names_file_owner_and_who_tried(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place / "queue.sqlite"
    file.touch(0o600)
    owner = files.name_of(os.geteuid())
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    done = pijobs(place, "pause", "--yes")
    assert isinstance(done.exception, StorageUnavailable)
    assert f"{file} belongs to {owner} (mode 0600), and this process runs as nobody" in str(done.exception)
    assert "chown nobody it" in str(done.exception)
