"""``pijobs check``: what it finds, says and mends."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pijobs.cli.main import main
from pijobs.jobs import State
from pijobs.storage.sql import SqlStorage
from pijobs.storage.values import NewInstance

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite"


@pytest.fixture
def check(tmp_path: Path, queue: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run the command; its exit code and what it printed."""
    config = tmp_path / "pi.cfg"
    config.touch(0o600)
    config.write_text(
        "SECRET_KEY = 's3cr3t'\nPI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'\nPI_JOB_QUEUE_PLUGINS = []\n"
        f"PI_JOB_QUEUE_URL = 'sqlite:///{queue}'\nPI_JOB_QUEUE_SPOOL = '{tmp_path}/spool.sqlite'\n"
    )

    def run(*options: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["--config", str(config), "check", *options])
        return int(ended.value.code or 0), capsys.readouterr().out

    return run


def damage(path: Path) -> None:
    storage = SqlStorage(f"sqlite:///{path}", "privacyidea")
    storage.enqueue(NewInstance("some-id", "a.b", b"envelope", b"body", "a.b"), timeout=5)
    storage.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE pijobs_instance SET priority = 'high'")


def state(path: Path) -> tuple[State, str | None]:
    storage: Any = SqlStorage(f"sqlite:///{path}", "privacyidea")
    record = storage.get("some-id")
    storage.close()
    return record.state, record.reason


def test_nothing_is_wrong(check: Check) -> None:
    assert check() == (0, "the stored data is consistent\n")
    assert check("--json") == (0, "[]\n")


@pytest.mark.parametrize("place", ["queue", "spool"])
def test_a_fault_is_told_and_mended_when_asked(check: Check, tmp_path: Path, place: str) -> None:
    check()
    path = tmp_path / f"{place}.sqlite"
    damage(path)
    code, out = check()
    assert code == 1
    assert out == f"{place}: some-id: damaged: priority\nfound 1 fault; 'pijobs check --repair' repairs what it can\n"
    code, out = check("--repair", "--json")
    assert (code, json.loads(out)) == (
        0, [{"in": place, "id": "some-id", "what": "damaged: priority", "mended": True}],
    )  # fmt: skip
    assert state(path) == (State.DEAD, 'damaged: priority is "high"')
    assert check() == (0, "the stored data is consistent\n")
