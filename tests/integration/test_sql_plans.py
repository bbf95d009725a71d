"""No statement looks at rows that it does not need: the plans of everything that SQLite is asked."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract.workers import LONG, Worker, new_instance
from sqlalchemy import event
from sqlalchemy.pool import Pool

from pijobs.jobs import State
from pijobs.storage.sql import SqlStorage


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """All that SQLite was asked, with its parameters."""
    statements: list[str] = []

    def trace(connection: Any, _record: object) -> None:
        connection.set_trace_callback(statements.append)

    event.listen(Pool, "connect", trace)
    yield statements
    event.remove(Pool, "connect", trace)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite"


@pytest.fixture
def busy(asked: list[str], path: Path) -> Iterator[SqlStorage]:
    """A queue in which everything has happened once."""
    storage = SqlStorage(f"sqlite:///{path}", "plans")
    live_a_life(storage)
    yield storage
    storage.close()


def live_a_life(storage: SqlStorage) -> None:
    now = storage.now()
    worker = Worker(storage, lambda ms: None)
    for number in range(30):
        storage.enqueue(
            new_instance(key=f"key-{number % 20}", subject="subject", person="person", deadline=now + LONG, limit=5),
            timeout=5,
        )
    storage.enqueue(new_instance(due=now + 1), timeout=5)
    storage.enqueue_periodic(new_instance(), due=now)
    storage.last_periodic("test.job")
    storage.wait(0.05)
    for state in (State.DONE, State.SCHEDULED, State.DEAD, State.EXPIRED):
        worker.end(worker.take_one(), state, entry="{}")
    dead = storage.page(State.DEAD).records[0].id
    for state in State:
        for filters in ({}, {"name": "test.job"}, {"group": "test.job"}, {"subject": "subject"}):
            page = storage.page(state, limit=1, **filters)
            if page.cursor:
                storage.page(state, limit=1, cursor=page.cursor, **filters)
    storage.retry(dead)
    storage.cancel(dead, reason="by admin")
    storage.remove(dead)
    storage.make_due("test.job")
    storage.pause("test.job")
    storage.resume("test.job")
    storage.set_group("test.job", version=0, limit=3, blocked_until=None, policy="")
    storage.count("key", limit=3, per=1000)
    worker.beat(abandoned=[worker.take_one()])
    for look in (storage.depths, storage.sessions, storage.groups):
        look()
    storage.group("test.job")
    storage.close_session(worker.session)


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    return [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]


def test_nothing_scans_the_instances(busy: SqlStorage, asked: list[str], path: Path) -> None:
    # A connection can tell the plan of what it would do, without doing it.
    connection = sqlite3.connect(path)
    checked = 0
    for statement in {one for one in asked if re.match("SELECT|UPDATE|DELETE|INSERT", one)}:
        for line in plan(connection, statement):
            checked += 1
            assert not re.search(r"SCAN pijobs_(instance|session|counter)\b", line), f"{line}: {statement}"
    connection.close()
    assert checked > 60


def test_nothing_sorts_what_an_index_has_in_order(busy: SqlStorage, asked: list[str], path: Path) -> None:
    connection = sqlite3.connect(path)
    ordered = {one for one in asked if "ORDER BY" in one and "LIMIT" in one and "pijobs_instance" in one}
    assert len(ordered) > 20
    for statement in ordered:
        lines = plan(connection, statement)
        assert not any("TEMP B-TREE" in line for line in lines), f"{lines}: {statement}"
    connection.close()


def test_counting_reads_an_index_and_no_row(busy: SqlStorage, asked: list[str], path: Path) -> None:
    connection = sqlite3.connect(path)
    counting = {one for one in asked if "count(*)" in one and "GROUP BY" in one}
    assert len(counting) >= 2
    for statement in counting:
        assert all("COVERING INDEX" in line for line in plan(connection, statement)), statement
    connection.close()


def work_of(path: Path, storage: SqlStorage, groups: int, limit: int | None) -> int:
    """What a step costs that takes two where so many groups are in use, in thousands of instructions of SQLite."""
    fill(path, storage, groups, limit)
    worker, ticks = Worker(storage, lambda ms: None), 0
    worker.end(worker.take_one(), State.DONE)

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    for link in storage._live.quick._idle:  # type: ignore[attr-defined]
        link.connection.set_progress_handler(tick, 1000)
    assert len(worker.take(2)) == 2
    assert ticks
    return ticks


def fill(path: Path, storage: SqlStorage, groups: int, limit: int | None) -> None:
    """One waits in each group; the first is paused, the second has an open circuit breaker."""
    storage.enqueue(new_instance(group="group0", limit=limit, due=None), timeout=5)
    with sqlite3.connect(path) as connection:
        for table, changed in (("group", ("name",)), ("instance", ("id", "grp", "seq"))):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info(pijobs_{table})")]
            taken = ", ".join("?" if name in changed else name for name in columns)
            order = [name for name in columns if name in changed]
            rows = ({"name": f"group{n}", "id": f"id{n}", "grp": f"group{n}", "seq": n + 1} for n in range(1, groups))
            connection.executemany(
                f"INSERT INTO pijobs_{table} SELECT {taken} FROM pijobs_{table} LIMIT 1",
                [tuple(row[name] for name in order) for row in rows],
            )
    connection.close()
    storage.pause("group0")
    storage.set_group("group1", version=0, limit=1, blocked_until=storage.now() + LONG, policy="")


@pytest.mark.parametrize("limit", [None, 1])
def test_a_step_costs_as_much_with_many_groups_as_with_more(tmp_path: Path, limit: int | None) -> None:
    costs = []
    for groups in (200, 4000):
        storage = SqlStorage(f"sqlite:///{tmp_path}/{groups}.sqlite", "plans")
        costs.append(work_of(tmp_path / f"{groups}.sqlite", storage, groups, limit))
        storage.close()
    assert costs[1] <= costs[0] * 1.2, costs
