"""Groups: limits, blocks, pauses, and counted events."""

from __future__ import annotations

import pytest

from pijobs.execution.groups import HEALTHY, Policy
from pijobs.jobs import State
from pijobs.observe.switches import resume
from pijobs.storage.contract import Storage
from pijobs.storage.records import GroupRecord
from pijobs.storage.values import End, Pause

from .conftest import Advance
from .time_travel import SLACK
from .workers import LONG, Worker, enqueue


def known(storage: Storage, name: str) -> GroupRecord:
    record = storage.group(name)
    assert record is not None
    return record


def decide(
    storage: Storage, name: str, *, limit: int | None = None, blocked_until: int | None = None, policy: str = "{}"
) -> None:
    """Write a decision of the policy."""
    record = storage.group(name)
    version = record.version if record else 0
    assert storage.set_group(name, version=version, limit=limit, blocked_until=blocked_until, policy=policy)


def fill(storage: Storage, group: str, number: int, **changes: object) -> list[str]:
    return [enqueue(storage, group=group, **changes) for _ in range(number)]


# -- what is known ---------------------------------------------------------------------------------------------------


def test_an_unknown_group_is_none(storage: Storage) -> None:
    assert storage.group("nothing") is None


def test_a_group_is_known_by_its_first_instance(storage: Storage, worker: Worker) -> None:
    fill(storage, "smtp.example", 3, limit=2)
    enqueue(storage, group="smtp.example", due=storage.now() + LONG)
    worker.take()
    record = known(storage, "smtp.example")
    assert (record.name, record.running, record.waiting, record.limit) == ("smtp.example", 2, 2, 2)
    assert (record.blocked_until, record.paused, record.policy) == (None, False, "")


def test_the_numbers_of_a_group_follow_its_instances(storage: Storage, worker: Worker) -> None:
    def numbers() -> tuple[int, int]:
        record = known(storage, "group")
        return record.running, record.waiting

    storage.pause("group")
    storage.resume("group")
    fill(storage, "group", 3)
    first, second, third = worker.take()
    assert numbers() == (3, 0)
    worker.end(first, State.DONE)
    worker.end(second, State.SCHEDULED, due=storage.now() + LONG)
    assert numbers() == (1, 1)
    worker.beat(abandoned=[third])
    assert numbers() == (0, 2)
    storage.cancel(second.id, reason="by admin")
    assert numbers() == (0, 1)


def test_groups_are_listed_by_name(storage: Storage) -> None:
    for name in ("b", "c", "a"):
        enqueue(storage, group=name, limit=1)
    assert [record.name for record in storage.groups()] == ["a", "b", "c"]
    assert storage.groups()[0] == storage.group("a")


def test_groups_are_listed_page_by_page(storage: Storage) -> None:
    names = sorted(f"group {number} ü" for number in range(130))
    for name in names:
        storage.pause(name)
    pages = [storage.groups(limit=60)]
    while len(pages[-1]) == 60:
        pages.append(storage.groups(after=pages[-1][-1].name, limit=60))
    assert [len(page) for page in pages] == [60, 60, 10]
    assert [record.name for page in pages for record in page] == names
    assert storage.groups(limit=len(names)) == [record for page in pages for record in page]
    assert storage.groups(after=names[-1]) == []


def test_groups_in_trouble_are_found_among_many(storage: Storage) -> None:
    """Without reading all others, however many there are between two of them."""
    names = sorted(f"group {number} ü" for number in range(600))
    for name in names:
        works = Policy(limit=7, proven=True)
        storage.set_group(name, version=0, limit=7, blocked_until=None, policy=works.dumps(), keep=LONG)
    fails = Policy(failures=1, reason="connection refused").dumps()
    storage.set_group(names[-2], version=1, limit=1, blocked_until=None, policy=fails, keep=LONG)
    storage.pause(names[1])
    enqueue(storage, group="without a policy")
    found = storage.groups(healthy=HEALTHY)
    assert [record.name for record in found] == [names[1], names[-2]]
    assert found == [storage.group(names[1]), storage.group(names[-2])]
    assert storage.groups(healthy=HEALTHY, limit=1) == found[:1]
    assert storage.groups(healthy=HEALTHY, limit=1, after=names[1]) == found[1:]
    assert storage.groups(healthy=HEALTHY, after=names[-2]) == []


# -- limits ----------------------------------------------------------------------------------------------------------


def test_no_more_than_the_limit_run_at_once(storage: Storage, worker: Worker) -> None:
    ids = fill(storage, "narrow", 4, limit=2)
    leases = worker.take()
    assert [lease.id for lease in leases] == ids[:2]
    assert worker.take() == []
    worker.end(leases[0], State.DONE)
    assert worker.take_ids() == ids[2:3]


def test_what_is_held_by_a_limit_stays_queued(storage: Storage, worker: Worker) -> None:
    _, second = fill(storage, "narrow", 2, limit=1)
    worker.take()
    assert storage.get(second).state is State.QUEUED


def test_a_full_group_lets_others_pass(storage: Storage, worker: Worker) -> None:
    fill(storage, "narrow", 30, limit=1, priority=5)
    other = enqueue(storage, group="other")
    assert other in worker.take_ids()


def test_an_end_makes_room_in_the_same_step(storage: Storage, worker: Worker) -> None:
    ids = fill(storage, "narrow", 2, limit=1)
    lease = worker.take_one()
    step = worker.step(End(lease.id, lease.token, State.DONE), want=1)
    assert [one.id for one in step.leases] == ids[1:]


def test_a_known_group_keeps_its_own_limit(storage: Storage, worker: Worker) -> None:
    fill(storage, "narrow", 1, limit=1)
    fill(storage, "narrow", 3, limit=5)
    assert len(worker.take()) == 1
    assert known(storage, "narrow").limit == 1


def test_a_decided_limit_outlives_new_instances(storage: Storage, worker: Worker) -> None:
    decide(storage, "narrow", limit=1)
    fill(storage, "narrow", 3, limit=5)
    assert len(worker.take()) == 1


def test_a_periodic_instance_brings_a_limit_too(storage: Storage, worker: Worker) -> None:
    from .workers import new_instance

    storage.enqueue_periodic(new_instance(group="narrow", limit=1), due=storage.now())
    fill(storage, "narrow", 2)
    assert len(worker.take()) == 1


def test_a_raised_limit_makes_room(storage: Storage, worker: Worker) -> None:
    ids = fill(storage, "narrow", 3, limit=1)
    worker.take()
    decide(storage, "narrow", limit=2)
    assert worker.take_ids() == ids[1:2]
    decide(storage, "narrow", limit=None)
    assert worker.take_ids() == ids[2:]


def test_a_lowered_limit_leaves_what_runs(storage: Storage, worker: Worker) -> None:
    ids = fill(storage, "narrow", 4, limit=3)
    leases = worker.take()
    decide(storage, "narrow", limit=1)
    for lease in leases[:2]:
        worker.end(lease, State.DONE)
        assert worker.take() == []
    worker.end(leases[2], State.DONE)
    assert worker.take_ids() == ids[3:]


def test_a_limit_of_zero_lets_nothing_run(storage: Storage, worker: Worker) -> None:
    decide(storage, "narrow", limit=0)
    fill(storage, "narrow", 1)
    assert worker.take() == []


def test_an_expired_instance_takes_no_room(storage: Storage, worker: Worker, advance: Advance) -> None:
    fill(storage, "narrow", 1, limit=1, deadline=storage.now() + 1)
    (fresh,) = fill(storage, "narrow", 1)
    advance(5)
    taken = [*worker.take_ids(), *worker.take_ids()]
    assert taken == [fresh]


# -- blocks ----------------------------------------------------------------------------------------------------------


def test_a_blocked_group_is_not_leased(storage: Storage, worker: Worker) -> None:
    (held,), (free,) = fill(storage, "down", 1, priority=5), fill(storage, "up", 1)
    until = storage.now() + LONG
    decide(storage, "down", blocked_until=until)
    assert worker.take_ids() == [free]
    assert storage.get(held).state is State.QUEUED
    assert known(storage, "down").blocked_until == until


def test_a_group_can_be_blocked_before_its_first_instance(storage: Storage, worker: Worker) -> None:
    decide(storage, "down", blocked_until=storage.now() + LONG)
    fill(storage, "down", 1)
    assert worker.take() == []


def test_a_block_ends_by_itself(storage: Storage, worker: Worker, advance: Advance) -> None:
    decide(storage, "down", blocked_until=storage.now() + 6_000)
    ids = fill(storage, "down", 2)
    advance(6_000)
    assert worker.take_ids() == ids


def test_a_block_can_be_lifted(storage: Storage, worker: Worker) -> None:
    ids = fill(storage, "down", 2)
    decide(storage, "down", blocked_until=storage.now() + LONG)
    decide(storage, "down", blocked_until=None)
    assert worker.take_ids() == ids


def test_half_open_lets_one_through(storage: Storage, worker: Worker, advance: Advance) -> None:
    ids = fill(storage, "down", 3)
    decide(storage, "down", limit=1, blocked_until=storage.now() + 5_000)
    advance(5_000)
    assert worker.take_ids() == ids[:1]
    assert worker.take() == []


def test_ends_in_a_blocked_group_are_carried_out(storage: Storage, worker: Worker) -> None:
    (instance,) = fill(storage, "down", 1)
    lease = worker.take_one()
    decide(storage, "down", blocked_until=storage.now() + LONG)
    worker.end(lease, State.DONE)
    assert storage.get(instance).state is State.DONE


# -- compare and set -------------------------------------------------------------------------------------------------


def test_a_decision_is_kept(storage: Storage) -> None:
    until = storage.now() + LONG
    assert storage.set_group("group", version=0, limit=3, blocked_until=until, policy='{"state": "ö"}')
    record = known(storage, "group")
    assert (record.limit, record.blocked_until, record.policy) == (3, until, '{"state": "ö"}')
    assert record.version > 0


def test_the_version_grows_with_every_decision(storage: Storage) -> None:
    versions = []
    for _ in range(3):
        decide(storage, "group", limit=1)
        versions.append(known(storage, "group").version)
    assert versions[0] < versions[1] < versions[2]


def test_a_decision_on_an_old_version_changes_nothing(storage: Storage) -> None:
    decide(storage, "group", limit=1)
    old = known(storage, "group").version
    decide(storage, "group", limit=2)
    before = known(storage, "group")
    assert not storage.set_group("group", version=old, limit=9, blocked_until=None, policy="old")
    assert known(storage, "group") == before


def test_version_zero_means_a_group_that_was_never_decided_on(storage: Storage) -> None:
    assert storage.set_group("group", version=0, limit=1, blocked_until=None, policy="first")
    assert not storage.set_group("group", version=0, limit=2, blocked_until=None, policy="second")
    assert not storage.set_group("other", version=3, limit=2, blocked_until=None, policy="third")
    assert known(storage, "group").policy == "first"
    assert storage.group("other") is None


# -- pauses ----------------------------------------------------------------------------------------------------------


def test_a_paused_group_says_so(storage: Storage) -> None:
    storage.pause("group")
    assert known(storage, "group").paused
    storage.resume("group")
    record = storage.group("group")
    assert record is None or not record.paused


@pytest.mark.parametrize("group", [None, "group"])
def test_a_pause_tells_who_when_and_why(storage: Storage, peer: Storage, group: str | None) -> None:
    def told() -> Pause | None:
        return peer.depths().pause if group is None else known(peer, group).pause

    before = storage.now()
    storage.pause(group, by="root on db1", reason="moving \N{HOUSE BUILDING}, \0")
    pause = told()
    assert pause is not None and pause.at is not None and before - SLACK <= pause.at <= storage.now() + SLACK
    assert (pause.by, pause.reason) == ("root on db1", "moving \N{HOUSE BUILDING}, \\x00")
    storage.pause(group, by="somebody else")
    assert (pause := told()) is not None and (pause.by, pause.reason) == ("somebody else", "")
    storage.resume(group)
    assert storage.depths().pause is None and all(record.pause is None for record in storage.groups())


def test_a_group_that_was_paused_before_its_first_instance_has_the_limit_of_that(
    storage: Storage, worker: Worker
) -> None:
    storage.pause("group")
    fill(storage, "group", 2, limit=1)
    storage.resume("group")
    assert known(storage, "group").limit == 1
    assert len(worker.take(2)) == 1


def test_a_pause_survives_decisions(storage: Storage, worker: Worker) -> None:
    storage.pause("group")
    decide(storage, "group", limit=5)
    fill(storage, "group", 1)
    assert known(storage, "group").paused
    assert worker.take() == []


def test_resuming_does_not_lift_a_block_or_limit(storage: Storage, worker: Worker) -> None:
    decide(storage, "blocked", blocked_until=storage.now() + LONG)
    decide(storage, "full", limit=0)
    for name in ("blocked", "full"):
        storage.pause(name)
        fill(storage, name, 1)
        storage.resume(name)
    assert worker.take() == []


def test_resuming_the_queue_does_not_resume_a_group(storage: Storage, worker: Worker) -> None:
    storage.pause()
    storage.pause("group")
    fill(storage, "group", 1)
    storage.resume()
    assert worker.take() == []


def test_resuming_what_is_not_paused_does_nothing(storage: Storage, worker: Worker) -> None:
    storage.resume()
    storage.resume("group")
    (instance,) = fill(storage, "group", 1)
    assert worker.take_ids() == [instance]


# -- counted events --------------------------------------------------------------------------------------------------


def test_events_are_counted_up_to_the_limit(storage: Storage) -> None:
    assert [storage.count("key", limit=3, per=LONG) for _ in range(3)] == [None] * 3
    assert storage.count("key", limit=3, per=LONG) is not None


def test_a_refused_event_learns_when_one_more_is_allowed(storage: Storage, advance: Advance) -> None:
    before = storage.now()
    storage.count("key", limit=1, per=LONG)
    after = storage.now()
    advance(200)
    allowed = storage.count("key", limit=1, per=LONG)
    assert allowed is not None
    assert before - SLACK <= allowed - LONG <= after + SLACK


def test_one_more_is_allowed_at_that_time(storage: Storage, advance: Advance) -> None:
    storage.count("key", limit=1, per=40_000)
    allowed = storage.count("key", limit=1, per=40_000)
    assert allowed is not None
    advance(allowed - storage.now())
    assert storage.count("key", limit=1, per=40_000) is None


def test_the_window_slides(storage: Storage, advance: Advance) -> None:
    per = 60_000
    assert storage.count("key", limit=2, per=per) is None
    advance(35_000)
    assert storage.count("key", limit=2, per=per) is None
    advance(30_000)
    # The first event has left the window, the second has not.
    assert storage.count("key", limit=2, per=per) is None
    assert storage.count("key", limit=2, per=per) is not None


def test_refused_events_do_not_count(storage: Storage, advance: Advance) -> None:
    storage.count("key", limit=1, per=30_000)
    for _ in range(5):
        assert storage.count("key", limit=1, per=30_000) is not None
    advance(30_000)
    assert storage.count("key", limit=1, per=30_000) is None


def test_keys_are_counted_apart(storage: Storage) -> None:
    assert [storage.count(key, limit=1, per=LONG) for key in ("one", "two", "drei ü€")] == [None] * 3


def test_events_are_counted_over_all_processes(storage: Storage, peer: Storage) -> None:
    storage.count("key", limit=2, per=LONG)
    peer.count("key", limit=2, per=LONG)
    assert storage.count("key", limit=2, per=LONG) is not None


def test_housekeeping_does_not_forget_events_in_their_window(storage: Storage, worker: Worker) -> None:
    storage.count("key", limit=1, per=LONG)
    worker.beat()
    assert storage.count("key", limit=1, per=LONG) is not None


def test_resume_of_an_open_breaker_lets_one_through_now(storage: Storage, worker: Worker) -> None:
    for _ in range(3):
        enqueue(storage, group="group")
    policy = Policy(limit=1, failures=3, opened=1, opened_at=storage.now()).dumps()
    record = known(storage, "group")
    until = storage.now() + LONG
    assert storage.set_group("group", version=record.version, limit=1, blocked_until=until, policy=policy)
    assert worker.take() == []
    assert resume(storage, "group")
    assert len(worker.take()) == 1
    assert known(storage, "group").policy == policy


def test_resume_of_a_group_whose_breaker_is_closed_lifts_no_other_block(storage: Storage, worker: Worker) -> None:
    enqueue(storage, group="group")
    until = storage.now() + LONG
    record = known(storage, "group")
    assert storage.set_group("group", version=record.version, limit=5, blocked_until=until, policy="")
    storage.pause("group")
    assert not resume(storage, "group") and not resume(storage, "nobody") and not resume(storage, None)
    assert known(storage, "group").blocked_until == until and not known(storage, "group").paused
    assert worker.take() == []
