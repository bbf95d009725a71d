"""Fields of a group's record that hold something else than expected: by another release, or a hand."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
import redis
import sqlalchemy as sa

from pijobs.jobs import State
from pijobs.storage.redis import RedisStorage
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.sql import SqlStorage
from pijobs.storage.values import End, NewInstance


@pytest.mark.parametrize(
    ("field", "value"), [("limit", "abc"), ("version", "x"), ("blocked", "zz"), ("policy", "junk"), ("policy", b"\xff")]
)
def test_a_damaged_field_of_a_group_is_as_good_as_none_and_is_mended(
    redis_url: str, field: str, value: str | bytes
) -> None:
    queue = f"damage-{uuid4().hex}"
    storage = RedisStorage(redis_url, queue)
    storage.ping()
    storage.enqueue(NewInstance("1", "a.b", b"e", b"b", "mx", limit=2), timeout=5)
    client = redis.Redis.from_url(redis_url)
    (key,) = client.keys(f"*{queue}*g:mx")
    client.hset(key, field, value)
    storage.open_session(SessionInfo("s", "h", 1, storage.now(), "1"), lease=60_000)
    (lease,) = storage.step("s", [], want=1).leases
    record = storage.group("mx")
    assert record is not None and storage.groups() == [record]
    assert storage.set_group("mx", version=record.version, limit=3, blocked_until=None, policy="{}")
    mended = storage.group("mx")
    assert mended is not None and (mended.limit, mended.version) == (3, record.version + 1)
    assert storage.step("s", [End(lease.id, lease.token, State.DONE)], want=0).lost == []
    storage.close()


@pytest.mark.parametrize(
    ("column", "value"), [("lim", "abc"), ("blocked_until", "zz"), ("policy", "junk"), ("policy", b"x")]
)
def test_the_same_in_sqlite(tmp_path: Path, column: str, value: str | bytes) -> None:
    url = f"sqlite:///{tmp_path}/queue.sqlite"
    storage = SqlStorage(url, "damage")
    storage.ping()
    storage.enqueue(NewInstance("1", "a.b", b"e", b"b", "mx", limit=2), timeout=5)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.update(sa.table("pijobs_group", sa.column(column))).values({column: value}))
    engine.dispose()
    storage.open_session(SessionInfo("s", "h", 1, storage.now(), "1"), lease=60_000)
    (lease,) = storage.step("s", [], want=1).leases
    record = storage.group("mx")
    assert record is not None
    assert storage.set_group("mx", version=record.version, limit=3, blocked_until=None, policy="{}")
    assert storage.step("s", [End(lease.id, lease.token, State.DONE)], want=0).lost == []
    storage.close()


@pytest.mark.parametrize("times", ["junk", "{}", '["x"]', "", "7"])
def test_a_damaged_counter_begins_anew(tmp_path: Path, times: str) -> None:
    url = f"sqlite:///{tmp_path}/queue.sqlite"
    storage = SqlStorage(url, "damage")
    assert storage.count("rate", limit=1, per=60_000) is None
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.update(sa.table("pijobs_counter", sa.column("times"))).values(times=times))
    engine.dispose()
    assert storage.count("rate", limit=1, per=60_000) is None
    assert storage.count("rate", limit=1, per=60_000) is not None
    storage.close()
