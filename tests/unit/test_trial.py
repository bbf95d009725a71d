"""What follows when a trial of a storage fails: commands, workers and readiness."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from contract.workers import new_instance

from pijobs.base import clock
from pijobs.cli.schema import schema
from pijobs.errors import StorageUnavailable, StorageUnfit
from pijobs.factory import build
from pijobs.observe.readiness import readiness
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.sql import SqlStorage
from pijobs.storage.trial import BELIEVED, Fitness
from pijobs.worker.session import Session, describe_process

from .test_cli_main import QUEUE, Run, Write, _fresh_commands, pi_cfg, run

__all__ = ["_fresh_commands", "pi_cfg", "run"]


class OnTrial(MemoryStorage):
    """A storage whose trials fail with what is set here."""

    trouble: StorageUnavailable | None = None
    away = False
    trials = 0

    def ping(self) -> None:
        if self.away:
            raise StorageUnavailable("the cable is pulled")

    def try_out(self) -> None:
        self.trials += 1
        if self.trouble:
            raise self.trouble


@pytest.fixture
def storage() -> OnTrial:
    return OnTrial()


def test_a_trial_that_succeeded_is_believed_for_a_while(storage: OnTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "monotonic", lambda: 0.0)
    fitness = Fitness(storage)
    fitness.require()
    fitness.require()
    assert storage.trials == 1
    monkeypatch.setattr(clock, "monotonic", lambda: BELIEVED)
    fitness.require()
    assert storage.trials == 2


def test_a_trial_that_failed_is_made_again_at_once(storage: OnTrial) -> None:
    fitness = Fitness(storage)
    storage.trouble = StorageUnfit("too old")
    for _ in range(2):
        with pytest.raises(StorageUnfit, match="too old"):
            fitness.require()
    storage.trouble = None
    fitness.require()


def test_who_can_not_wait_is_told_of_the_last_trial(storage: OnTrial) -> None:
    fitness = Fitness(storage)
    fitness.require(anew=False)
    assert storage.trials == 0
    storage.trouble = StorageUnfit("too old")
    for anew in (True, False):
        with pytest.raises(StorageUnfit, match="too old"):
            fitness.require(anew=anew)
    assert storage.trials == 1


def test_a_worker_whose_storage_came_late_does_not_work_on_one_that_does_not_fit(
    storage: OnTrial, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(storage, describe_process(), lease=10)
    storage.away = True
    session.beat()
    storage.away, storage.trouble = False, StorageUnfit("expected Redis 6.0, found 5.0")
    with caplog.at_level(logging.ERROR):
        session.beat()
        session.beat()
    assert storage.sessions() == [] and session.reachable is False
    assert [r.levelname for r in caplog.records if "found 5.0" in r.message] == ["CRITICAL"]  # told once
    storage.trouble = None
    session.beat()
    assert session.reachable and storage.sessions()


def test_a_worker_opens_its_session_on_a_full_storage_to_empty_it(storage: OnTrial) -> None:
    session = Session(storage, describe_process(), lease=10)
    storage.away = True
    session.beat()
    storage.away, storage.trouble = False, StorageUnavailable("the memory of Redis is used up")
    session.beat()
    assert session.reachable and storage.sessions()


@pytest.fixture
def unfit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A ``pi.cfg`` whose storage does not fit."""

    # Where there is no file yet, a look has nothing to try.
    storage = SqlStorage(f"sqlite:///{tmp_path}/queue.sqlite", "unfit")
    storage.enqueue(new_instance(), timeout=5)
    storage.close()

    def try_out(storage: Any) -> None:
        raise StorageUnfit("expected SQLite 3.31 or later, found version 3.7")

    monkeypatch.setattr(SqlStorage, "try_out", try_out)
    return f"{QUEUE}PI_JOB_QUEUE_URL = 'sqlite:///{tmp_path}/queue.sqlite'\n"


@pytest.mark.parametrize("command", [["config", "check"], ["worker", "-l", "-"]])
def test_a_storage_that_does_not_fit_is_2_with_the_reason(
    run: Run, pi_cfg: Write, unfit: str, command: list[str]
) -> None:
    result = run(*command, "--config", pi_cfg(unfit))
    assert result.code == 2 and "expected SQLite 3.31 or later, found version 3.7" in result.err


def test_readiness_is_red_with_the_reason(unfit: str, tmp_path: Path) -> None:
    values = {
        "SECRET_KEY": "x" * 32, "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_PLUGINS": [],
        "PI_JOB_QUEUE_URL": f"sqlite:///{tmp_path}/queue.sqlite",
    }  # fmt: skip
    checks = dict(readiness(build(values).queue))
    assert not checks["storage"].ok
    assert "can't be used: expected SQLite 3.31 or later, found version 3.7" in checks["storage"].message


@pytest.mark.parametrize(
    ("dialect", "told"),
    [
        ("postgresql", 'GRANT SELECT, INSERT, UPDATE, DELETE ON pijobs_counter, pijobs_group, .* TO "a""b";'),
        ("mariadb", "GRANT SELECT, INSERT, UPDATE, DELETE ON pijobs_instance TO 'a\"b'@'%';"),
        ("sqlite", "CREATE TABLE IF NOT EXISTS pijobs_instance"),
    ],
)
def test_the_schema_is_printed_without_a_pi_cfg(dialect: str, told: str) -> None:
    import re

    output = CliRunner().invoke(schema, ["--dialect", dialect, "--user", 'a"b']).output
    assert re.search(told, output) and "INSERT INTO pijobs_meta (name, value) VALUES ('schema'" in output
