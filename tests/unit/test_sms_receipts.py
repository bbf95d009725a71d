"""What gateways tell of SMS that they took: kept by instance, and shown where the instance is."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from pijobs.base import clock
from pijobs.database import Database
from pijobs_sms.receipts import KEEP, Receipts, table

ONE, TWO = "1" * 32, "2" * 32


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path}/receipts.sqlite", tmp_path)


@pytest.fixture
def receipts(database: Database) -> Receipts:
    return Receipts(database)


def test_what_is_delivered_is_told_by_instance(receipts: Receipts) -> None:
    receipts.expect("main", ["a1"], ONE)
    receipts.expect("main", ["a2"], TWO)
    assert receipts.states([ONE, TWO]) == {}
    assert receipts.tell("main", "a1", delivered=True) == ONE
    told = receipts.states([ONE, TWO, "3" * 32])
    assert list(told) == [ONE] and told[ONE].startswith("delivered, told at 2")


def test_what_is_not_delivered_has_its_reason(receipts: Receipts) -> None:
    receipts.expect("main", ["a1"], ONE)
    receipts.tell("main", "a1", delivered=False, reason="UNDELIV, error 27")
    assert receipts.states([ONE])[ONE].startswith("not delivered, told at 2")
    assert receipts.states([ONE])[ONE].endswith(": UNDELIV, error 27")


def test_all_parts_must_arrive(receipts: Receipts) -> None:
    receipts.expect("main", ["a1", "a2"], ONE)
    receipts.tell("main", "a2", delivered=True)
    assert receipts.states([ONE]) == {}
    receipts.tell("main", "a1", delivered=True)
    assert "not" not in receipts.states([ONE])[ONE]
    receipts.tell("main", "a1", delivered=False)
    assert receipts.states([ONE])[ONE].startswith("not delivered")


def test_an_id_belongs_to_its_gateway(receipts: Receipts) -> None:
    receipts.expect("main", ["a1"], ONE)
    assert receipts.tell("other", "a1", delivered=True) is None
    assert receipts.states([ONE]) == {}


def test_an_instance_may_be_told_by_its_own_id(receipts: Receipts) -> None:
    assert receipts.tell("main", ONE, delivered=True) == ONE
    assert receipts.tell("main", "hello", delivered=True) is None
    assert list(receipts.states([ONE])) == [ONE]


@pytest.mark.parametrize(
    ("answered", "told"),
    [("1F", "31"), ("0000001f", "31"), ("0000001F", "0000000031"), ("31", "1F"), ("31", "0000001f"), ("aB-7", "Ab-7")],
)
def test_servers_that_change_between_decimal_and_hexadecimal(receipts: Receipts, answered: str, told: str) -> None:
    receipts.expect("main", [answered], ONE)
    assert receipts.tell("main", told, delivered=True) == ONE


def test_an_id_as_it_is_goes_first(receipts: Receipts) -> None:
    receipts.expect("main", ["16"], ONE)
    receipts.expect("main", ["10"], TWO)
    assert receipts.tell("main", "16", delivered=True) == ONE
    assert receipts.tell("main", "10", delivered=True) == TWO


def test_what_is_too_old_goes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    Receipts(database).expect("main", ["a1"], ONE)
    now = clock.time()
    monkeypatch.setattr(clock, "time", lambda: now + KEEP + 60)
    Receipts(database).expect("main", ["a2"], TWO)
    with database.read() as connection:
        assert connection.execute(sa.select(table.c.instance)).scalars().all() == [TWO]
