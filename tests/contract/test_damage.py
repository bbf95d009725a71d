"""Damaged records: they end dead, take nothing else with them, and are never told as an outage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from services import wait_until

from pijobs.errors import StorageDamaged
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import End

from .conftest import Advance, StartWorker
from .workers import LONG, Worker, enqueue

Damage = Callable[..., None]

#: Field in Redis, column in SQL, and what may stand there; None: the field is missing.
REDIS = [
    ("attempts", "abc"), ("attempts", "1e3"), ("priority", "x"), ("due", "x"), ("due", ""), ("created", None),
    ("seq", None), ("group", None), ("deadline", "soon"), ("history", "{"), ("history", '{"a": 1}'), ("history", "[1]"),
    ("name", b"\xff\xfe"), ("group", b"\xed\xff"), ("name", None), ("crashes", "1.5"), ("state", "lost"),
    ("keep", "for ever"), ("held", "x"), ("priority", "9" * 400),
]  # fmt: skip
SQLITE = [
    ("attempts", "abc"), ("priority", "x"), ("due", "x"), ("created", "x"), ("deadline", "soon"), ("history", "{"),
    ("history", "[1]"), ("name", b"\xff\xfe"), ("grp", b"\xff"), ("crashes", 1.5), ("keep", "x"), ("envelope", "text"),
]  # fmt: skip
SERVERS = [("history", "{"), ("history", "[1]")]


@pytest.fixture
def damage(kind: str, storage: Any, request: pytest.FixtureRequest) -> Iterator[Damage]:
    """Write something into a record, past the storage: ``damage(id, field=value)``."""
    if kind == "memory":
        pytest.skip("memory belongs to one process")
    if kind.startswith("redis"):
        import redis

        client = redis.Redis.from_url(request.getfixturevalue("redis_url"))

        def write(instance: str, **fields: Any) -> None:
            for field, value in fields.items():
                key = f"{storage._prefix}i:{instance}"
                client.hdel(key, field) if value is None else client.hset(key, field, value)

        yield write
        client.close()
        return
    engine = sa.create_engine(storage._url)

    def change(instance: str, **fields: Any) -> None:
        table = sa.table("pijobs_instance", sa.column("id"), *(sa.column(name) for name in fields))
        with engine.begin() as connection:
            connection.execute(sa.update(table).where(table.c.id == instance).values(**fields))

    yield change
    engine.dispose()


def cases(kind: str) -> list[tuple[str, Any]]:
    return REDIS if kind == "redis" else SQLITE if kind == "sqlite" else SERVERS


ALL = [(kind, *case) for kind in ("redis", "sqlite", "postgresql", "mariadb") for case in cases(kind)]
every_case = pytest.mark.parametrize(("kind", "field", "value"), ALL, ids=lambda value: str(value)[:12])


def assert_parked(storage: Storage, instance: str) -> None:
    record = storage.get(instance)
    assert record.state is State.DEAD
    assert (record.reason or "").startswith("damaged: "), record.reason
    assert record.has_body
    assert storage.page(State.DEAD).records == [record]


@every_case
def test_a_damaged_instance_ends_dead_and_its_neighbours_run(
    storage: Storage, worker: Worker, damage: Damage, field: str, value: Any
) -> None:
    ids = [enqueue(storage, deadline=storage.now() + LONG) for _ in range(5)]
    damage(ids[1], **{field: value})
    storage.depths(), storage.page(State.QUEUED), storage.sessions()
    taken = []
    for _ in range(3):
        leases = worker.take()
        taken += [lease.id for lease in leases]
        assert worker.step(*[End(one.id, one.token, State.DONE) for one in leases]).lost == []
    for _ in range(3):  # what no step meets, the audit does
        worker.beat()
    assert sorted(taken) == sorted(ids[:1] + ids[2:])
    assert_parked(storage, ids[1])
    assert {one: number for one, number in storage.depths().counts.items() if number and one[1] is not State.DEAD} == {
        ("test.job", State.DONE): 4
    }
    assert [(one.running, one.waiting) for one in storage.groups() if one.name == "test.job"] in ([], [(0, 0)])


@every_case
def test_one_that_is_damaged_while_it_runs_takes_no_other_end_with_it(
    storage: Storage, worker: Worker, damage: Damage, field: str, value: Any
) -> None:
    ids = [enqueue(storage) for _ in range(3)]
    leases = worker.take()
    damage(ids[1], **{field: value})
    step = worker.step(*[End(one.id, one.token, State.SCHEDULED, due=storage.now() + LONG) for one in leases])
    worker.beat(), worker.beat()
    assert set(step.lost) <= {ids[1]}
    assert [storage.get(one).state for one in (ids[0], ids[2])] == [State.SCHEDULED] * 2
    assert storage.get(ids[1]).state in (State.DEAD, State.SCHEDULED)


@every_case
def test_one_that_is_damaged_is_recovered_past(
    storage: Storage, start_worker: StartWorker, damage: Damage, field: str, value: Any
) -> None:
    worker, other = start_worker(), start_worker()
    ids = [enqueue(storage) for _ in range(3)]
    worker.take()
    damage(ids[1], **{field: value})
    worker.fall_silent()
    for _ in range(2):
        other.beat()
    assert sorted(other.take_ids()) == sorted([ids[0], ids[2]])


def test_a_damaged_dead_letter_can_be_retried(storage: Storage, worker: Worker, damage: Damage) -> None:
    instance = enqueue(storage)
    damage(instance, history="{")
    assert worker.take_ids() == []
    assert_parked(storage, instance)
    storage.retry(instance)
    assert worker.take_ids() == [instance]


def test_whoever_took_it_tells_of_it(storage: Storage, worker: Worker, damage: Damage) -> None:
    instance = enqueue(storage)
    damage(instance, history="{")
    ended = worker.step(want=1).ended
    assert [(one.id, one.state, one.crashed) for one in ended] == [(instance, State.DEAD, False)]


# -- the audit -------------------------------------------------------------------------------------------------------


def faults(storage: Storage, *, repair: bool = False) -> list[tuple[str, bool]]:
    return [(fault.id, fault.mended) for audit in storage.check(repair=repair) for fault in audit.faults]


def test_nothing_is_wrong_with_what_lives(storage: Storage, worker: Worker, advance: Advance) -> None:
    for state in (State.DONE, State.DEAD, State.EXPIRED, State.SCHEDULED):
        instance = enqueue(storage, key=f"key {state}", subject="anna", deadline=storage.now() + LONG)
        worker.run(instance, state, due=storage.now() + LONG)
    enqueue(storage, key="running")
    worker.take_one()
    storage.cancel(enqueue(storage, key="cancelled"), reason="by admin")
    for due in (None, storage.now() + LONG):
        enqueue(storage, due=due, key=f"waits {due}", group="waits", deadline=storage.now() + LONG)
    held = enqueue(storage)
    storage.pause("waits")
    worker.run(held, State.QUEUED, due=storage.now() + LONG)
    worker.beat()
    assert faults(storage) == faults(storage, repair=True) == []


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_check_tells_and_mends_only_when_asked(storage: Storage, damage: Damage) -> None:
    instance = enqueue(storage)
    damage(instance, priority="x")
    assert faults(storage) == [(instance, False)]
    assert storage.page(State.DEAD).records == []
    assert faults(storage, repair=True) == [(instance, True)]
    assert_parked(storage, instance)
    assert faults(storage) == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
@pytest.mark.parametrize("lost", [{"alarm": None}, {"attend": None}, {"rank": 7}])
def test_a_row_that_nothing_leads_to_is_found(
    storage: Storage, worker: Worker, damage: Damage, advance: Advance, lost: dict[str, Any]
) -> None:
    due = storage.now() + 300
    instance = enqueue(storage, due=due, deadline=storage.now() + LONG, priority=5)
    damage(instance, **lost)
    assert faults(storage) == [(instance, False)]
    worker.beat()
    assert faults(storage) == []
    advance(max(0, due - storage.now()))
    assert worker.take_ids() == [instance]


class Lists:
    """The lists of a queue in Redis."""

    def __init__(self, storage: Any, url: str) -> None:
        import redis

        self.prefix, self.client = storage._prefix, redis.Redis.from_url(url, decode_responses=True)

    def take_out(self, instance: str) -> None:
        """Out of all lists."""
        for key in self.client.scan_iter(match=self.prefix + "*"):
            kind = self.client.type(key)
            if kind == "zset":
                self.client.zrem(key, instance, f"i:{instance}")
            elif kind == "set":
                self.client.srem(key, instance)

    def of(self, instance: str) -> set[str]:
        """The lists that it is in."""
        found = set()
        for key in self.client.scan_iter(match=self.prefix + "*"):
            kind = self.client.type(key)
            if (kind == "zset" and any(self.client.zscore(key, one) for one in (instance, f"i:{instance}"))) or (
                kind == "set" and self.client.sismember(key, instance)
            ):
                found.add(key.removeprefix(self.prefix))
        return found


@pytest.fixture
def lists(storage: Storage, redis_url: str) -> Lists:
    return Lists(storage, redis_url)


@pytest.mark.parametrize("kind", ["redis"])
@pytest.mark.parametrize("state", [State.QUEUED, State.SCHEDULED, State.RUNNING, State.DONE, State.DEAD])
def test_what_no_list_leads_to_is_found(storage: Storage, worker: Worker, lists: Lists, state: State) -> None:
    due = storage.now() + LONG if state is State.SCHEDULED else None
    instance = enqueue(storage, due=due, deadline=storage.now() + LONG, subject="anna", person="her", priority=3)
    if state not in (State.QUEUED, State.SCHEDULED):
        lease = worker.take_one()
        if state is not State.RUNNING:
            worker.end(lease, state)
    before = lists.of(instance)
    lists.take_out(instance)
    assert faults(storage) and lists.of(instance) == set()
    assert all(mended for _, mended in faults(storage, repair=True))
    assert faults(storage) == []
    after = lists.of(instance)
    if state is State.RUNNING:
        assert (storage.get(instance).state, storage.get(instance).crashes) == (State.QUEUED, 1)
    else:
        assert after == before
        for told in ("anna", "her"):
            assert storage.page(state, subject=told).records == [storage.get(instance)]


@pytest.mark.parametrize("kind", ["redis"])
def test_entries_that_lead_to_nothing_go(storage: Storage, worker: Worker, lists: Lists) -> None:
    enqueue(storage, group="narrow", limit=1)
    for kind in ("x:running:test.job", "y:running:narrow", "y:done:narrow", "s:dead:anna", "q:narrow"):
        lists.client.zadd(lists.prefix + kind, {"ghost": 1})
    lists.client.sadd(f"{lists.prefix}runs:{worker.session}", "ghost")
    assert worker.take_ids() == []  # a ghost takes the room of the group
    wait_until(lambda: worker.beat().alive and not lists.of("ghost"), what="the end of the audit")
    assert len(worker.take_ids()) == 1


@pytest.mark.parametrize("kind", ["redis"])
def test_long_lists_are_gone_through_to_their_end(storage: Any, worker: Worker, lists: Lists) -> None:
    ids = [enqueue(storage, group=f"group {number % 60}") for number in range(300)]
    ghosts = {f"ghost {number}": number for number in range(400)}
    for key in ("x:done:test.job", "y:dead:group 1", "x:queued:test.job", "q:group 1"):
        lists.client.zadd(lists.prefix + key, ghosts)
    found = faults(storage)
    assert {one for one, _ in found} == set(ghosts) and len(found) == 4 * len(ghosts)
    assert len(faults(storage, repair=True)) == len(found)
    assert faults(storage) == []
    assert len({one for _ in range(20) for one in worker.take_ids(40)}) == len(ids)


@pytest.mark.parametrize("kind", ["redis"])
@pytest.mark.parametrize(
    "key", ["later", "q:test.job", "x:queued:test.job", "deadline", "keep", "ready", "names", "key"]
)
def test_a_list_of_a_stranger_is_put_aside(storage: Storage, worker: Worker, lists: Lists, key: str) -> None:
    first = enqueue(storage, key="user-7", deadline=storage.now() + LONG)
    lists.client.delete(lists.prefix + key)
    lists.client.set(lists.prefix + key, "something else")
    second = enqueue(storage, key="user-8", deadline=storage.now() + LONG)
    faults(storage, repair=True)
    assert sorted(worker.take_ids()) == sorted([first, second])


@pytest.mark.parametrize("kind", ["redis"])
def test_a_record_of_a_stranger_ends_dead(
    storage: Storage, worker: Worker, lists: Lists, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = enqueue(storage), enqueue(storage)
    lists.client.delete(f"{lists.prefix}i:{first}")
    lists.client.set(f"{lists.prefix}i:{first}", "something else")
    assert worker.take_ids() == [second]
    assert storage.get(first).state is State.DEAD
    assert lists.client.get(f"{lists.prefix}damaged:i:{first}") == "something else"
    assert [one for one, _ in faults(storage)] == [f"i:{first}"]
    worker.beat()
    caplog.clear()
    worker.beat()
    assert caplog.text == ""  # known, and told once


@pytest.mark.parametrize("kind", ["redis"])
@pytest.mark.parametrize("field", ["seq", "seen", "paused", "floors"])
def test_a_damaged_counter_stops_nothing(storage: Storage, worker: Worker, lists: Lists, field: str) -> None:
    lists.client.hset(lists.prefix + "meta", field, "not a number")
    instance = enqueue(storage)
    worker.beat()
    assert worker.take_ids() == ([] if field == "paused" else [instance])


@pytest.mark.parametrize("kind", ["redis"])
def test_a_damaged_total_begins_anew_and_the_others_count_once(storage: Storage, lists: Lists) -> None:
    storage.add_totals({"a": 1, "b": 1, "c": 1})
    lists.client.hset(lists.prefix + "totals", "b", "x")
    storage.add_totals({"a": 1, "b": 1, "c": 1})
    assert storage.totals() == {"a": 2, "b": 1, "c": 2}


@pytest.mark.parametrize("kind", ["redis"])
def test_a_session_that_can_not_be_read_hides_no_other(
    storage: Storage, start_worker: StartWorker, lists: Lists
) -> None:
    first, second = start_worker(), start_worker()
    lists.client.hset(f"{lists.prefix}session:{first.session}", "told", "{")
    assert [record.info.id for record in storage.sessions()] == [second.session]


@pytest.mark.parametrize(
    ("kind", "field"), [("redis", "due"), ("redis", "priority"), ("sqlite", "history"), ("sqlite", "due")]
)
def test_what_is_damaged_stays_when_the_others_are_taken_out(storage: Storage, damage: Damage, field: str) -> None:
    ids = [enqueue(storage) for _ in range(3)]
    damage(ids[1], **{field: "{"})
    taken = [new.id for new in storage.take_out(10, hold=LONG)]
    assert set(taken) - {ids[1]} == {ids[0], ids[2]}


@pytest.mark.parametrize("kind", ["redis"])
def test_a_fault_of_the_data_is_not_told_as_an_outage(storage: Any) -> None:
    from pijobs.storage.redis.scripts import Script

    for source in ("return redis.call('LPUSH', KEYS[1], 1) + redis.call('HGET', KEYS[1], 'a')", "return nil + 1"):
        with pytest.raises(StorageDamaged, match=r"can't be used.*pijobs check"):
            storage._run(Script(source))
    storage._run(Script("redis.call('DEL', KEYS[1]) return {0}"))
