"""Limits of SMS: what counts, for how long, and that nobody gets around them."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa
from processes import run_at_once

from pijobs.database import Database
from pijobs.testing.clock import ManualClock
from pijobs_sms.limits import HOUR, Limits, table


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path}/limits.sqlite", tmp_path)


@pytest.fixture
def limits(database: Database, clock: ManualClock) -> Limits:
    return Limits(database, now=clock.time)


def test_what_is_over_the_limit_is_told_by_name(limits: Limits) -> None:
    assert [limits.take({"number": 2, "gateway": 5}) for _ in range(3)] == [None, None, "number"]
    assert [limits.take({"other": 9, "gateway": 5}) for _ in range(4)] == [None, None, None, "gateway"]


def test_what_is_refused_by_one_limit_counts_against_none(limits: Limits) -> None:
    limits.take({"number": 1, "gateway": 2})
    for _ in range(5):
        assert limits.take({"number": 1, "gateway": 2}) == "number"
    assert limits.take({"other": 1, "gateway": 2}) is None


def test_zero_is_no_limit(limits: Limits) -> None:
    assert {limits.take({"number": 0, "gateway": 0}) for _ in range(50)} == {None}


def test_no_window_of_an_hour_has_more_than_the_limit(limits: Limits, clock: ManualClock) -> None:
    taken = []
    for second in range(0, 3 * 3600, 37):
        if limits.take({"number": 10}) is None:
            taken.append(second)
        clock.advance(37)
    assert len(taken) >= 20
    assert all(later - earlier > 3600 for earlier, later in zip(taken, taken[10:], strict=False))


def test_what_is_given_back_can_be_taken_again(limits: Limits) -> None:
    names = {"number": 1, "gateway": 1}
    assert limits.take(names) is None
    limits.give_back(names)
    assert (limits.take(names), limits.take(names)) == (None, "gateway")


def test_rows_that_count_no_more_go(limits: Limits, clock: ManualClock, database: Database) -> None:
    limits.take({"old": 5})
    clock.advance((HOUR + 2) * 60)
    limits.take({"new": 5})
    with database.read() as connection:
        assert connection.execute(sa.select(table.c.name)).scalars().all() == ["new"]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/pijobs.sqlite"
    return str(request.getfixturevalue(f"{request.param}_url"))


TAKE = """
import sys, threading
from pathlib import Path
from pijobs.database import Database
from pijobs_sms.limits import Limits

url, name, result = sys.argv[1:]
limits, answers = Limits(Database(url, Path("/"))), []

def take():
    answers.append(limits.take({name: 40, name + "g": 1000}))

print("ready", flush=True)
sys.stdin.read()
threads = [threading.Thread(target=take) for _ in range(75)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
Path(result).write_text(f"{answers.count(None)} {answers.count(name)}")
"""


def test_hundreds_at_once_from_four_processes_get_exactly_the_limit(url: str, tmp_path: Path) -> None:
    name, results = uuid.uuid4().hex[:20], [tmp_path / f"result{number}" for number in range(4)]
    run_at_once(*([TAKE, url, name, str(result)] for result in results))
    taken, refused = zip(*(map(int, result.read_text().split()) for result in results), strict=True)
    assert (sum(taken), sum(refused)) == (40, 260)
