"""Lists of instances, page by page."""

from __future__ import annotations

import pytest

from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record

from .conftest import Advance
from .test_people import bring_to
from .workers import LONG, Worker, enqueue


def ids(records: list[Record]) -> list[str]:
    return [record.id for record in records]


def read_all(storage: Storage, state: State, *, limit: int, **filters: str) -> list[str]:
    """All pages, one after the other."""
    found: list[str] = []
    cursor: str | None = None
    for _ in range(100):
        page = storage.page(state, cursor=cursor, limit=limit, **filters)
        assert len(page.records) <= limit
        found += ids(page.records)
        if (cursor := page.cursor) is None:
            return found
    pytest.fail("the cursor never ends")


@pytest.mark.parametrize("state", list(State))
def test_a_page_shows_the_instances_of_its_state(storage: Storage, worker: Worker, state: State) -> None:
    # In an order in which no instance is in the way of the next.
    order = [State.DONE, State.DEAD, State.EXPIRED, State.RUNNING, State.CANCELLED, State.SCHEDULED, State.QUEUED]
    found = {one: bring_to(storage, worker, one) for one in order}
    page = storage.page(state)
    assert ids(page.records) == [found[state]]
    assert page.records[0] == storage.get(found[state])
    assert page.cursor is None


def test_an_empty_page(storage: Storage) -> None:
    page = storage.page(State.QUEUED)
    assert (page.records, page.cursor) == ([], None)


def test_what_waits_is_listed_newest_first_by_enqueue(storage: Storage, worker: Worker) -> None:
    queued = [enqueue(storage, priority=priority) for priority in (0, 5, -5, 0)]
    scheduled = [enqueue(storage, due=storage.now() + LONG - number) for number in range(3)]
    assert ids(storage.page(State.QUEUED).records) == queued[::-1]
    assert ids(storage.page(State.SCHEDULED).records) == scheduled[::-1]


def test_what_runs_is_listed_newest_first_by_enqueue(storage: Storage, worker: Worker) -> None:
    running = [enqueue(storage, priority=priority) for priority in (0, 5, -5, 0)]
    worker.take()
    assert ids(storage.page(State.RUNNING).records) == running[::-1]


@pytest.mark.parametrize("state", [State.DONE, State.DEAD, State.EXPIRED])
def test_what_has_ended_is_listed_newest_first_by_end(
    storage: Storage, worker: Worker, advance: Advance, state: State
) -> None:
    for _ in range(4):
        enqueue(storage)
    leases = worker.take()
    order = [leases[number] for number in (2, 0, 3, 1)]
    for lease in order:
        worker.end(lease, state)
        advance(2)
    assert ids(storage.page(state).records) == [lease.id for lease in order[::-1]]


def test_pages_follow_one_another(storage: Storage) -> None:
    queued = [enqueue(storage) for _ in range(7)]
    assert read_all(storage, State.QUEUED, limit=3) == queued[::-1]
    assert read_all(storage, State.QUEUED, limit=7) == queued[::-1]
    assert read_all(storage, State.QUEUED, limit=1) == queued[::-1]


def test_pages_of_ended_instances_follow_one_another(storage: Storage, worker: Worker) -> None:
    done = [enqueue(storage) for _ in range(7)]
    for lease in worker.take():
        worker.end(lease, State.DONE)
    found = read_all(storage, State.DONE, limit=3)
    assert sorted(found) == sorted(done)


def test_pages_do_not_repeat_what_comes_in_between(storage: Storage) -> None:
    queued = [enqueue(storage) for _ in range(4)]
    page = storage.page(State.QUEUED, limit=2)
    enqueue(storage)
    rest = storage.page(State.QUEUED, limit=10, cursor=page.cursor)
    assert ids(page.records) + ids(rest.records) == queued[::-1]


def test_a_cursor_survives_that_its_record_goes(storage: Storage) -> None:
    queued = [enqueue(storage) for _ in range(4)]
    page = storage.page(State.QUEUED, limit=2)
    storage.cancel(queued[2], reason="by admin")
    rest = storage.page(State.QUEUED, limit=10, cursor=page.cursor)
    assert ids(rest.records) == [queued[1], queued[0]]


@pytest.mark.parametrize("cursor", ["", "nonsense", "-", "1; DROP TABLE", "ü", "[]"])
def test_a_foreign_cursor_is_refused(storage: Storage, cursor: str) -> None:
    enqueue(storage)
    with pytest.raises(ValueError):
        storage.page(State.QUEUED, cursor=cursor)


@pytest.mark.parametrize("field", ["name", "group", "subject"])
@pytest.mark.parametrize("state", list(State))
def test_a_page_can_be_filtered(storage: Storage, worker: Worker, field: str, state: State) -> None:
    wanted = []
    for number in range(6):
        due = storage.now() + LONG if state is State.SCHEDULED else None
        changes = {field: f"filter.{'odd' if number % 2 else 'even'}"}
        instance = enqueue(storage, due=due, **changes)
        wanted += [instance] if number % 2 else []
        if state is State.CANCELLED:
            storage.cancel(instance, reason="by admin")
    leases = worker.take() if state in (State.RUNNING, State.DONE, State.DEAD, State.EXPIRED) else []
    for lease in leases if state is not State.RUNNING else []:
        worker.end(lease, state)
    assert sorted(read_all(storage, state, limit=2, **{field: "filter.odd"})) == sorted(wanted)
    assert read_all(storage, state, limit=2, **{field: "filter.none"}) == []


def test_filters_can_be_combined(storage: Storage) -> None:
    for number in range(12):
        enqueue(storage, name=f"job.n{number % 2}", group=f"g{number % 3}", subject="anna" if number < 6 else None)
    wanted = enqueue(storage, name="job.n1", group="g1", subject="anna")
    enqueue(storage, name="job.n1", group="g1", subject="berta")
    found = read_all(storage, State.QUEUED, limit=2, name="job.n1", group="g1", subject="anna")
    assert found[0] == wanted
    assert len(found) == 2
    assert {storage.get(one).group for one in found} == {"g1"}


def test_an_instance_is_found_by_its_person_as_by_its_subject_until_it_is_removed(
    storage: Storage, worker: Worker
) -> None:
    both = [enqueue(storage, subject="a@example.com", person="anna"), enqueue(storage, subject="anna", person="anna")]
    other = enqueue(storage, subject="b@example.com", person="berta")

    def found(told: str, state: State) -> list[str]:
        return read_all(storage, state, limit=1, subject=told)

    assert found("anna", State.QUEUED) == both[::-1] and found("a@example.com", State.QUEUED) == both[:1]
    leases = worker.take(3)
    assert found("anna", State.RUNNING) == both[::-1] and found("anna", State.QUEUED) == []
    for lease in leases:
        worker.end(lease, State.DEAD)
    assert sorted(found("anna", State.DEAD)) == sorted(both) and found("berta", State.DEAD) == [other]
    storage.retry(other)
    assert found("berta", State.QUEUED) == [other] and found("berta", State.DEAD) == []
    for instance in both:
        storage.remove(instance)
    assert found("anna", State.DEAD) == found("a@example.com", State.DEAD) == []


def test_instances_of_one_due_time_are_read_page_by_page(storage: Storage, worker: Worker) -> None:
    due = storage.now() + LONG
    for _ in range(41):
        enqueue(storage)
    for lease in worker.take(41):
        worker.end(lease, State.QUEUED, due=due)
    found = read_all(storage, State.QUEUED, limit=4)
    assert len(found) == len(set(found)) == 41


@pytest.mark.parametrize("kind", ["redis"])
def test_a_later_page_of_one_due_time_costs_no_more_than_the_first(
    storage: Storage, worker: Worker, redis_url: str
) -> None:
    import redis

    due = storage.now() + LONG
    for _ in range(600):
        enqueue(storage)
    for lease in worker.take(600):
        worker.end(lease, State.QUEUED, due=due)
    cursor = storage.page(State.QUEUED, limit=5).cursor
    client, read = redis.Redis.from_url(redis_url), []
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]
        assert len(storage.page(State.QUEUED, limit=5, cursor=cursor).records) == 5
        client.echo("the end")
        for entry in monitor.listen():
            if "the end" in entry["command"]:
                break
            read.append(entry["command"])
    client.close()
    assert not [one for one in read if "BYSCORE" in one and "LIMIT" not in one]
    assert len(read) < 50
