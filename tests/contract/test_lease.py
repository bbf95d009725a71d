"""What workers take, and in which order."""

from __future__ import annotations

import pytest

from pijobs.errors import InstanceNotFound
from pijobs.jobs import State
from pijobs.storage.contract import Storage

from .conftest import OpenStorage, StartWorker
from .time_travel import SLACK
from .workers import LONG, Worker, enqueue, new_instance


def test_a_lease_carries_the_instance(storage: Storage, worker: Worker) -> None:
    new = new_instance(group="smtp.example", priority=3)
    storage.enqueue(new, timeout=5)
    lease = worker.take_one()
    assert (lease.id, lease.name, lease.envelope, lease.body) == (new.id, new.name, new.envelope, new.body)
    assert (lease.group, lease.priority, lease.attempts, lease.crashes) == ("smtp.example", 3, 0, 0)
    assert lease.held_since is None
    assert lease.token


def test_a_lease_tells_how_long_the_instance_waited(storage: Storage, worker: Worker) -> None:
    before = storage.now()
    enqueue(storage)
    lease = worker.take_one()
    assert before - SLACK <= lease.due <= lease.leased <= storage.now() + SLACK


def test_a_leased_instance_is_running(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    lease = worker.take_one()
    record = storage.get(instance)
    assert (record.state, record.session, record.started) == (State.RUNNING, worker.session, lease.leased)
    assert record.has_body


def test_a_leased_instance_is_not_leased_again(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    enqueue(storage)
    assert len(worker.take()) == 1
    assert worker.take() == []
    assert start_worker().take() == []


def test_each_lease_has_a_token_of_its_own(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    first = worker.take_one()
    worker.end(first, State.QUEUED, counted=False)
    second = worker.take_one()
    assert first.id == second.id == instance
    assert first.token != second.token


def test_no_more_than_wanted_are_leased(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage) for _ in range(5)]
    assert worker.take_ids(2) == ids[:2]
    assert worker.take_ids(2) == ids[2:4]
    assert worker.take_ids(2) == ids[4:]


def test_an_empty_queue_has_nothing_to_lease(worker: Worker) -> None:
    step = worker.step(want=3)
    assert (step.leases, step.lost, step.next_due, step.ended) == ([], [], None, [])


def test_queues_of_other_names_do_not_meet(
    storage: Storage, worker: Worker, open_storage: OpenStorage, queue: str
) -> None:
    other = open_storage(name=f"{queue}-other")
    instance = enqueue(other)
    assert worker.take() == []
    assert storage.depths().counts == {}
    with pytest.raises(InstanceNotFound):
        storage.get(instance)


# -- order -----------------------------------------------------------------------------------------------------------


def test_the_oldest_goes_first(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage) for _ in range(12)]
    assert worker.take_ids() == ids


def test_the_highest_priority_goes_first(storage: Storage, worker: Worker) -> None:
    ids = {priority: enqueue(storage, priority=priority) for priority in (0, 10, -1000, 1000, -1, 1)}
    assert worker.take_ids() == [ids[priority] for priority in (1000, 10, 1, 0, -1, -1000)]


def test_within_a_priority_the_oldest_goes_first(storage: Storage, worker: Worker) -> None:
    ids = [(priority, enqueue(storage, priority=priority)) for priority in (0, 5, 0, 5, 0, 5)]
    high = [instance for priority, instance in ids if priority == 5]
    low = [instance for priority, instance in ids if priority == 0]
    assert worker.take_ids(2) == high[:2]
    assert worker.take_ids() == high[2:] + low


def test_the_order_holds_across_groups(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage, group=f"group-{number % 3}") for number in range(9)]
    high = enqueue(storage, group="group-9", priority=1)
    assert worker.take_ids(4) == [high, *ids[:3]]
    assert worker.take_ids() == ids[3:]


def test_an_instance_that_was_given_back_keeps_its_old_place(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage) for _ in range(3)]
    lease = worker.take_one()
    worker.end(lease, State.QUEUED, counted=False)
    assert worker.take_ids() == ids


def test_an_instance_with_another_attempt_keeps_its_old_place(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage) for _ in range(3)]
    lease = worker.take_one()
    worker.end(lease, State.SCHEDULED, due=storage.now() - 1000)
    assert worker.take_ids() == ids


# -- floor -----------------------------------------------------------------------------------------------------------


def test_a_reserved_worker_takes_only_its_priority_and_above(storage: Storage, worker: Worker) -> None:
    for priority in (0, 9):
        enqueue(storage, priority=priority)
    at, above = enqueue(storage, priority=10), enqueue(storage, priority=11)
    assert worker.take_ids(floor=10) == [above, at]
    assert worker.take(floor=10) == []


def test_a_reserved_worker_does_not_hide_behind_lower_priorities_of_its_group(storage: Storage, worker: Worker) -> None:
    for number in range(30):
        enqueue(storage, group=f"group-{number % 2}")
    high = enqueue(storage, group="group-1", priority=10)
    assert worker.take_ids(floor=1) == [high]


def test_a_negative_floor_is_a_floor(storage: Storage, worker: Worker) -> None:
    enqueue(storage, priority=-11)
    instance = enqueue(storage, priority=-10)
    assert worker.take_ids(floor=-10) == [instance]


def test_a_floor_of_zero_is_a_floor(storage: Storage, worker: Worker) -> None:
    enqueue(storage, priority=-1)
    assert worker.take(floor=0) == []


# -- nothing is leased -----------------------------------------------------------------------------------------------


def test_nothing_is_leased_to_an_unknown_session(storage: Storage) -> None:
    enqueue(storage)
    assert storage.step("nobody", [], want=1).leases == []


def test_nothing_is_leased_to_a_session_past_its_lease(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    worker.fall_silent()
    assert worker.take() == []
    assert storage.get(instance).state is State.QUEUED


def test_nothing_is_leased_to_a_closed_session(storage: Storage, worker: Worker) -> None:
    enqueue(storage)
    storage.close_session(worker.session)
    assert worker.take() == []


def test_nothing_is_leased_when_nothing_is_wanted(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    assert worker.step(want=0).leases == []
    assert storage.get(instance).state is State.QUEUED


def test_nothing_is_leased_while_the_queue_is_paused(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    storage.pause()
    assert worker.take() == []
    storage.resume()
    assert worker.take_ids() == [instance]


def test_what_runs_goes_on_while_the_queue_is_paused(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    lease = worker.take_one()
    storage.pause()
    worker.end(lease, State.DONE)
    assert storage.get(instance).state is State.DONE


def test_a_paused_queue_takes_new_instances(storage: Storage, worker: Worker) -> None:
    storage.pause()
    ids = [enqueue(storage), enqueue(storage, due=storage.now() + LONG)]
    assert [storage.get(one).state for one in ids] == [State.QUEUED, State.SCHEDULED]


def test_nothing_is_leased_while_the_group_is_paused(storage: Storage, worker: Worker) -> None:
    held, free = enqueue(storage, group="held"), enqueue(storage, group="free")
    storage.pause("held")
    assert worker.take_ids() == [free]
    storage.resume("held")
    assert worker.take_ids() == [held]


def test_a_group_can_be_paused_before_it_is_known(storage: Storage, worker: Worker) -> None:
    storage.pause("later")
    enqueue(storage, group="later", priority=5)
    assert worker.take() == []
