"""Deadlines, and how long records stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pijobs.errors import InstanceNotFound, StateConflict
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, Retention

from .conftest import Advance, OpenStorage, StartWorker
from .workers import LONG, Worker, enqueue

Keeping = Callable[..., tuple[Storage, Worker]]


def is_kept(storage: Storage, instance: str) -> bool:
    try:
        storage.get(instance)
    except InstanceNotFound:
        return False
    return True


# -- deadlines -------------------------------------------------------------------------------------------------------


def test_an_instance_past_its_deadline_expires_instead_of_being_leased(
    storage: Storage, worker: Worker, advance: Advance
) -> None:
    late = enqueue(storage, deadline=storage.now() + 1, group="smtp.example")
    fresh = enqueue(storage, deadline=storage.now() + LONG)
    advance(5)
    step = worker.step(want=5)
    assert [lease.id for lease in step.leases] == [fresh]
    (ended,) = step.ended
    assert (ended.id, ended.name, ended.group, ended.state) == (late, "test.job", "smtp.example", State.EXPIRED)
    record = storage.get(late)
    assert (record.state, record.attempts, record.has_body) == (State.EXPIRED, 0, False)
    assert record.reason


def test_expired_instances_do_not_take_the_place_of_a_lease(storage: Storage, worker: Worker, advance: Advance) -> None:
    for _ in range(3):
        enqueue(storage, deadline=storage.now() + 1, priority=5)
    fresh = enqueue(storage)
    advance(5)
    taken = [instance for _ in range(4) for instance in worker.take_ids(1)]
    assert taken == [fresh]


def test_a_beat_expires_what_waits_past_its_deadline(storage: Storage, worker: Worker, advance: Advance) -> None:
    deadline = storage.now() + 5
    queued = enqueue(storage, deadline=deadline)
    scheduled = enqueue(storage, deadline=deadline, due=storage.now() + LONG)
    other = enqueue(storage, deadline=storage.now() + LONG)
    advance(5)
    assert {(one.id, one.state) for one in worker.beat().ended} == {
        (queued, State.EXPIRED),
        (scheduled, State.EXPIRED),
    }
    states = [storage.get(one).state for one in (queued, scheduled, other)]
    assert states == [State.EXPIRED, State.EXPIRED, State.QUEUED]
    assert worker.step(want=0).next_due is None


def test_a_beat_expires_what_waits_in_a_paused_or_blocked_group(
    storage: Storage, worker: Worker, advance: Advance
) -> None:
    ids = [enqueue(storage, deadline=storage.now() + 5, group=group) for group in ("paused", "blocked")]
    storage.pause("paused")
    blocked = storage.group("blocked")
    version = blocked.version if blocked else 0
    assert storage.set_group("blocked", version=version, limit=None, blocked_until=storage.now() + LONG, policy="")
    advance(5)
    worker.beat()
    assert {storage.get(one).state for one in ids} == {State.EXPIRED}


def test_beats_expire_all_that_is_overdue(storage: Storage, worker: Worker, advance: Advance) -> None:
    deadline = storage.now() + 5
    ids = {enqueue(storage, deadline=deadline) for _ in range(230)}
    advance(5)
    assert storage.depths().backlog == len(ids)
    assert {one.id for one in worker.keep_house()} == ids


def test_a_dead_letter_loses_its_body_at_its_deadline(storage: Storage, worker: Worker, advance: Advance) -> None:
    instance = enqueue(storage, deadline=storage.now() + 50_000)
    worker.run(instance, State.DEAD)
    advance(50_000)
    worker.beat()
    record = storage.get(instance)
    assert (record.state, record.has_body, storage.body(instance)) == (State.DEAD, False, None)
    with pytest.raises(StateConflict):
        storage.retry(instance)


def test_a_dead_letter_without_deadline_keeps_its_body(storage: Storage, worker: Worker, advance: Advance) -> None:
    plain, later = enqueue(storage), enqueue(storage, deadline=storage.now() + LONG)
    worker.run(plain, State.DEAD)
    worker.run(later, State.DEAD)
    advance(5)
    worker.beat()
    assert storage.get(plain).has_body and storage.get(later).has_body


def test_a_dead_letter_past_its_deadline_is_not_retried(storage: Storage, worker: Worker, advance: Advance) -> None:
    instance = enqueue(storage, deadline=storage.now() + 50_000)
    worker.run(instance, State.DEAD)
    advance(50_000)
    with pytest.raises(StateConflict):
        storage.retry(instance)
    assert storage.get(instance).state is State.DEAD


# -- retention -------------------------------------------------------------------------------------------------------


@pytest.fixture
def keeping(open_storage: OpenStorage, advance: Advance) -> Keeping:
    """A storage with a retention of its own, and a worker on it."""

    def keep(**retention: int) -> tuple[Storage, Worker]:
        keeper = open_storage(Retention(**retention))
        return keeper, Worker(keeper, advance)

    return keep


@pytest.mark.parametrize("state", [State.DONE, State.EXPIRED])
def test_what_ended_goes_after_its_time(keeping: Keeping, advance: Advance, state: State) -> None:
    storage, worker = keeping(finished=50)
    instance = enqueue(storage)
    worker.run(instance, state)
    advance(5_000)
    worker.beat()
    assert not is_kept(storage, instance)
    assert storage.page(state).records == []
    assert storage.depths().counts.get(("test.job", state), 0) == 0


def test_what_was_cancelled_goes_after_its_time(keeping: Keeping, advance: Advance) -> None:
    storage, worker = keeping(finished=50)
    instance = enqueue(storage)
    storage.cancel(instance, reason="by admin")
    advance(5_000)
    worker.beat()
    assert not is_kept(storage, instance)


def test_what_ended_stays_until_its_time(storage: Storage, worker: Worker, advance: Advance) -> None:
    done, dead = enqueue(storage), enqueue(storage)
    worker.run(done, State.DONE)
    worker.run(dead, State.DEAD)
    advance(20)
    worker.beat()
    assert is_kept(storage, done) and is_kept(storage, dead)


def test_an_instance_can_be_kept_longer_or_shorter(keeping: Keeping, advance: Advance) -> None:
    storage, worker = keeping(finished=50)
    longer, plain = enqueue(storage, keep=LONG), enqueue(storage)
    for one in (longer, plain):
        worker.run(one, State.DONE)
    advance(5_000)
    worker.beat()
    assert (is_kept(storage, longer), is_kept(storage, plain)) == (True, False)


def test_an_instance_can_be_kept_shorter(storage: Storage, worker: Worker, advance: Advance) -> None:
    shorter, plain = enqueue(storage, keep=30), enqueue(storage)
    for one in (shorter, plain):
        worker.run(one, State.DONE)
    advance(3_000)
    worker.beat()
    assert (is_kept(storage, shorter), is_kept(storage, plain)) == (False, True)


def test_dead_letters_have_a_time_of_their_own(keeping: Keeping, advance: Advance) -> None:
    storage, worker = keeping(finished=LONG, dead=50)
    dead, done = enqueue(storage), enqueue(storage)
    worker.run(dead, State.DEAD)
    worker.run(done, State.DONE)
    advance(5_000)
    worker.beat()
    assert (is_kept(storage, dead), is_kept(storage, done)) == (False, True)


def test_dead_letters_outlive_the_time_of_finished_ones(keeping: Keeping, advance: Advance) -> None:
    storage, worker = keeping(finished=30, dead=LONG)
    dead = enqueue(storage)
    worker.run(dead, State.DEAD)
    advance(3_000)
    worker.beat()
    assert is_kept(storage, dead)


def test_the_latest_of_each_job_are_kept(keeping: Keeping, advance: Advance) -> None:
    storage, worker = keeping(finished_max=3)
    ids: dict[str, list[str]] = {"job.one": [], "job.two": []}
    for name in ["job.one"] * 5 + ["job.two"] * 2:
        ids[name].append(enqueue(storage, name=name))
        worker.run(ids[name][-1], State.DONE)
        advance(2)
    worker.beat()
    assert [is_kept(storage, one) for one in ids["job.one"]] == [False, False, True, True, True]
    assert [is_kept(storage, one) for one in ids["job.two"]] == [True, True]


@pytest.mark.parametrize(("retention", "kept"), [({"finished": 50}, 0), ({"finished_max": 10}, 10)])
def test_beats_remove_all_that_is_too_much(
    keeping: Keeping, advance: Advance, retention: dict[str, int], kept: int
) -> None:
    storage, worker = keeping(**retention)
    ids = [enqueue(storage, name=f"job.{number % 2}") for number in range(230)]
    while leases := worker.take(50):
        worker.step(*[End(lease.id, lease.token, State.DONE) for lease in leases])
    advance(5_000)
    assert storage.depths().backlog == len(ids) - 2 * kept
    worker.keep_house()
    assert [number for number in storage.depths().counts.values() if number] == [kept] * 2 * bool(kept)
    assert [is_kept(storage, one) for one in ids[-2 * kept :]] == [True] * len(ids[-2 * kept :]) or not kept


def test_what_waits_or_runs_is_never_trimmed(keeping: Keeping, advance: Advance) -> None:
    storage, worker = keeping(finished=1, finished_max=1, dead=1)
    running = enqueue(storage)
    worker.take_one()
    queued, scheduled = enqueue(storage), enqueue(storage, due=storage.now() + LONG)
    advance(20)
    worker.beat()
    states = [storage.get(one).state for one in (running, queued, scheduled)]
    assert states == [State.RUNNING, State.QUEUED, State.SCHEDULED]


def test_a_retried_dead_letter_is_not_trimmed_by_its_former_end(
    keeping: Keeping, advance: Advance, start_worker: StartWorker
) -> None:
    storage, worker = keeping(dead=50, finished=50)
    instance = enqueue(storage)
    worker.run(instance, State.DEAD)
    storage.retry(instance)
    advance(5_000)
    worker.beat()
    assert worker.take_ids() == [instance]


def test_an_unused_group_is_forgotten(storage: Storage, worker: Worker) -> None:
    worker.run(enqueue(storage, group="once"), State.DONE)
    worker.beat()
    assert "once" not in [group.name for group in storage.groups()]
    assert storage.group("once") is None


def test_a_forgotten_group_starts_anew(storage: Storage, worker: Worker) -> None:
    worker.run(enqueue(storage, group="once", limit=5), State.DONE)
    worker.beat()
    for _ in range(2):
        enqueue(storage, group="once", limit=1)
    assert len(worker.take()) == 1


def test_a_group_in_use_is_not_forgotten(storage: Storage, worker: Worker) -> None:
    enqueue(storage, group="running")
    worker.take_one()
    enqueue(storage, group="waiting")
    enqueue(storage, group="scheduled", due=storage.now() + LONG)
    storage.pause("paused")
    assert storage.set_group("blocked", version=0, limit=None, blocked_until=storage.now() + LONG, policy="")
    assert storage.set_group("remembered", version=0, limit=2, blocked_until=None, policy="{}", keep=LONG)
    worker.beat()
    names = {"running", "waiting", "scheduled", "paused", "blocked", "remembered"}
    assert names <= {group.name for group in storage.groups()}


def test_groups_that_had_an_outcome_go_when_nothing_uses_them(
    storage: Storage, worker: Worker, advance: Advance
) -> None:
    for number in range(120):
        name = f"host{number}.example"
        worker.run(enqueue(storage, group=name, limit=2), State.DONE)
        known = storage.group(name)
        keep = 30 if number % 2 else 0
        assert known and storage.set_group(
            name, version=known.version, limit=3, blocked_until=None, policy='{"limit": 3}', keep=keep
        )
    advance(3_000)
    for _ in range(3):
        worker.beat()
    assert storage.groups() == []
