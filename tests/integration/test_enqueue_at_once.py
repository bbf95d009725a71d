"""The one statement by which PostgreSQL takes the usual instance, beside the transaction that takes any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import sqlalchemy as sa
from contract.workers import new_instance

from pijobs.storage.sql import SqlStorage
from pijobs.storage.sql.connection import Link
from pijobs.storage.sql.schema import RANK_STEP, instance
from pijobs.storage.values import NewInstance


@pytest.fixture
def storage(postgresql_url: str) -> Iterator[SqlStorage]:
    one = SqlStorage(postgresql_url, f"at-once-{uuid4().hex}")
    one.enqueue(new_instance(), timeout=10)  # its group is there from now on
    yield one
    one.close()


def row_of(url: str, instance_id: str) -> dict[str, Any]:
    """What does not depend on the moment; times as the difference to the time of the enqueue (ms)."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        row = dict(connection.execute(sa.select(instance).where(instance.c.id == instance_id)).one()._mapping)
    engine.dispose()
    enqueued = row.pop("enqueued")
    assert (row.pop("rank") + row["priority"] * RANK_STEP, row.pop("place")) == (enqueued, enqueued)
    assert row.pop("ukey") == row.pop("unique_key") is not None
    row["due"] = max(0, row["due"] - enqueued // 1000 - 1000)
    return {name: value for name, value in row.items() if name not in ("seq", "id")}


@pytest.mark.parametrize(
    "change",
    [{}, {"priority": -7}, {"deadline": 2**41, "subject": "s", "label": "l", "keep": 5}, {"due": 1}, {"due": 2**41}],
)
def test_it_writes_what_the_transaction_writes(
    storage: SqlStorage, postgresql_url: str, change: dict[str, int]
) -> None:
    written = []
    for at_once in (True, False):
        storage._dialect.enqueues_at_once = at_once  # type: ignore[misc]
        new: NewInstance = msgspec.structs.replace(new_instance(), key=uuid4().hex, **change)
        stored = storage.enqueue(new, timeout=10)
        written.append((stored.state, stored.fresh, row_of(postgresql_url, new.id)))
    first, second = written
    if change.get("due") == 2**41:
        assert first[2].pop("due") == pytest.approx(second[2].pop("due"), abs=60_000)
    assert first == second


def test_the_usual_enqueue_begins_no_transaction_by_hand(storage: SqlStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Link] = []
    monkeypatch.setattr(Link, "begin", begun.append)
    assert storage.enqueue(new_instance(), timeout=10).fresh
    assert begun == []
