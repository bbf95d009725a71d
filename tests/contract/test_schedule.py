"""What waits for its time: scheduled instances, and those deferred because this worker could not read them."""

from __future__ import annotations

from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import End

from .conftest import Advance, StartWorker
from .time_travel import SLACK
from .workers import LONG, Worker, enqueue


def test_a_scheduled_instance_is_not_leased_before_its_time(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage, due=storage.now() + LONG)
    assert worker.take() == []
    assert storage.get(instance).state is State.SCHEDULED


def test_a_scheduled_instance_is_leased_when_its_time_has_come(
    storage: Storage, worker: Worker, advance: Advance
) -> None:
    due = storage.now() + 50_000
    instance = enqueue(storage, due=due)
    advance(50_000)
    lease = worker.take_one()
    assert (lease.id, lease.due) == (instance, due)


def test_a_next_attempt_is_leased_when_its_time_has_come(storage: Storage, worker: Worker, advance: Advance) -> None:
    instance = enqueue(storage)
    worker.run(instance, State.SCHEDULED, due=storage.now() + 6_000)
    advance(6_000)
    lease = worker.take_one()
    assert (lease.id, lease.attempts) == (instance, 1)


def test_more_than_one_step_promotes_comes_in_several_steps(storage: Storage, worker: Worker, advance: Advance) -> None:
    ids = {enqueue(storage, due=storage.now() + 5) for _ in range(50)}
    advance(5)
    taken: set[str] = set()
    for _ in range(3):
        taken.update(worker.take_ids())
    assert taken == ids


def test_a_step_tells_when_the_next_scheduled_instance_becomes_due(storage: Storage, worker: Worker) -> None:
    due = storage.now() + LONG
    for later in (2, 1, 3):
        enqueue(storage, due=due + later)
    assert worker.step(want=1).next_due == due + 1


def test_a_step_tells_when_what_it_has_just_scheduled_becomes_due(storage: Storage, worker: Worker) -> None:
    enqueue(storage)
    lease, due = worker.take_one(), storage.now() + LONG
    step = worker.step(End(lease.id, lease.token, State.SCHEDULED, due=due), want=1)
    assert step.next_due == due


def test_a_cancelled_instance_does_not_become_due(storage: Storage, worker: Worker) -> None:
    storage.cancel(enqueue(storage, due=storage.now() + LONG), reason="by admin")
    assert worker.step(want=1).next_due is None


def test_a_superseded_scheduled_instance_does_not_become_due(
    storage: Storage, worker: Worker, advance: Advance
) -> None:
    first = enqueue(storage, key="key", due=storage.now() + 3_000)
    enqueue(storage, key="key", due=storage.now() + LONG)
    advance(3_000)
    assert worker.take() == []
    assert storage.get(first).state is State.CANCELLED


def test_promoted_instances_are_leased_by_priority(storage: Storage, worker: Worker, advance: Advance) -> None:
    due = storage.now() + 6_000
    low, high = enqueue(storage, due=due), enqueue(storage, due=due, priority=5)
    advance(6_000)
    assert worker.take_ids(1) == [high]
    assert worker.take_ids(1) == [low]


def test_nothing_is_promoted_past_a_paused_group(storage: Storage, worker: Worker, advance: Advance) -> None:
    enqueue(storage, group="held", due=storage.now() + 5)
    storage.pause("held")
    advance(5)
    assert worker.take() == []


# -- deferred -------------------------------------------------------------------------------------------------------


def hold(worker: Worker, due: int, reason: str = "unknown key") -> None:
    worker.end(worker.take_one(), State.QUEUED, counted=False, due=due, reason=reason)


def test_a_held_instance_stays_queued_with_the_reason(storage: Storage, worker: Worker) -> None:
    instance, due = enqueue(storage), storage.now() + LONG
    hold(worker, due)
    record = storage.get(instance)
    assert (record.state, record.reason, record.due) == (State.QUEUED, "unknown key", due)
    assert (record.attempts, record.has_body) == (0, True)


def test_a_held_instance_is_counted_and_listed_as_queued(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    hold(worker, storage.now() + LONG)
    counts = storage.depths().counts
    assert counts.get(("test.job", State.QUEUED), 0) == 1
    assert counts.get(("test.job", State.SCHEDULED), 0) == 0
    assert [record.id for record in storage.page(State.QUEUED).records] == [instance]
    assert storage.page(State.SCHEDULED).records == []


def test_a_held_instance_is_not_leased_before_its_time(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    enqueue(storage)
    hold(worker, storage.now() + LONG)
    assert worker.take() == []
    assert start_worker().take() == []


def test_a_held_instance_lets_the_others_of_its_group_pass(storage: Storage, worker: Worker) -> None:
    enqueue(storage)
    hold(worker, storage.now() + LONG)
    second = enqueue(storage)
    assert worker.take_ids() == [second]


def test_a_step_tells_when_a_held_instance_becomes_due(storage: Storage, worker: Worker) -> None:
    enqueue(storage)
    due = storage.now() + LONG
    hold(worker, due)
    assert worker.step(want=1).next_due == due


def test_a_held_instance_is_leased_when_its_time_has_come(storage: Storage, worker: Worker, advance: Advance) -> None:
    first = enqueue(storage)
    before = storage.now()
    hold(worker, storage.now() + 5_000)
    second = enqueue(storage)
    advance(5_000)
    leases = worker.take()
    assert [lease.id for lease in leases] == [first, second]
    held_since = leases[0].held_since
    assert held_since is not None
    assert before - SLACK <= held_since <= storage.now() + SLACK
    assert leases[1].held_since is None


def test_the_first_hold_is_remembered_over_several(storage: Storage, worker: Worker, advance: Advance) -> None:
    enqueue(storage)
    seen = []
    for _ in range(3):
        lease = worker.take_one()
        seen.append(lease.held_since)
        worker.end(lease, State.QUEUED, counted=False, due=storage.now() + 10, reason="unknown key")
        advance(10)
    assert seen[0] is None
    assert seen[1] is not None
    assert seen[2] == seen[1] == worker.take_one().held_since


def test_ends_that_do_not_count_tell_since_when_there_was_no_progress(
    storage: Storage, worker: Worker, advance: Advance
) -> None:
    enqueue(storage)
    seen = []
    for counted in (False, False, True, False):
        lease = worker.take_one()
        seen.append(lease.held_since)
        worker.end(lease, State.SCHEDULED, counted=counted, due=storage.now() + 10)
        advance(10)
    assert seen[0] is None and seen[3] is None
    assert seen[1] is not None and seen[1] == seen[2]


def test_another_end_forgets_the_hold(storage: Storage, worker: Worker, advance: Advance) -> None:
    enqueue(storage)
    hold(worker, storage.now() + 5_000)
    advance(5_000)
    held = worker.take_one()
    assert held.held_since is not None
    worker.end(held, State.SCHEDULED, due=storage.now() - 1000)
    assert worker.take_one().held_since is None


def test_a_held_instance_can_be_cancelled(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    hold(worker, storage.now() + LONG)
    storage.cancel(instance, reason="by admin")
    assert storage.get(instance).state is State.CANCELLED
    assert worker.step(want=1).next_due is None


def test_a_held_instance_expires(storage: Storage, worker: Worker, advance: Advance) -> None:
    instance = enqueue(storage, deadline=storage.now() + 50_000)
    hold(worker, storage.now() + LONG)
    advance(50_000)
    assert [one.id for one in worker.beat().ended] == [instance]
    assert storage.get(instance).state is State.EXPIRED
    assert storage.depths().counts.get(("test.job", State.QUEUED), 0) == 0


def test_a_hold_without_grace_ends_dead(storage: Storage, worker: Worker, advance: Advance) -> None:
    instance = enqueue(storage)
    hold(worker, storage.now() + 1)
    advance(1)
    worker.run(instance, State.DEAD, counted=False, reason="unknown key")
    assert storage.get(instance).state is State.DEAD
