"""What an outcome means for its group, told to a storage that other processes tell things, too."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from services import wait_until

from pijobs import Job, Limits
from pijobs.errors import AttemptDeferred, DestinationDown, StorageUnavailable
from pijobs.execution.groups import OPEN_FIRST, Policy
from pijobs.jobs import State
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.records import GroupRecord
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End, Lease, NewInstance
from pijobs.testing.clock import ManualClock
from pijobs.worker.destinations import Destinations

GROUP = "smtp.example"


class Counting(MemoryStorage):
    """Counts what it is asked; ``rival`` acts between a read and the next write."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.calls: list[str] = []
        self.rival: Destinations | None = None
        self.away = False

    def group(self, name: str) -> GroupRecord | None:
        self._ask("group")
        return super().group(name)

    def set_group(self, name: str, **decided: Any) -> bool:
        self._ask("set_group")
        if self.rival is not None:
            rival, self.rival = self.rival, None
            rival.succeeded(self, job().limits, lease(self))
        return super().set_group(name, **decided)

    def sessions(self):  # type: ignore[no-untyped-def]
        self._ask("sessions")
        return super().sessions()

    def _ask(self, name: str) -> None:
        if self.away:
            raise StorageUnavailable
        self.calls.append(name)


def job(**limits: int | float) -> Job:
    return Job("a.b", lambda: None, group=lambda: GROUP, limits=Limits(**limits) if limits else None)  # type: ignore[arg-type]


def lease(storage: MemoryStorage, *, leased: int | None = None) -> Lease:
    now = storage.now() if leased is None else leased
    return Lease("id", "token", "a.b", b"", b"", GROUP, 0, 0, 0, None, due=now, leased=now)


def failed(reason: str | None) -> End:
    return End("id", "token", State.SCHEDULED, counted=False, reason=reason)


@pytest.fixture
def storage(clock: ManualClock) -> Counting:
    return Counting(clock)


@pytest.fixture
def destinations(clock: ManualClock) -> Destinations:
    return Destinations(clock, own=20)


def known(storage: MemoryStorage) -> GroupRecord:
    record = MemoryStorage.group(storage, GROUP)
    assert record is not None
    return record


def enqueue(storage: MemoryStorage, number: int = 1, limit: int | None = 2) -> None:
    for n in range(number):
        storage.enqueue(NewInstance(f"{n}", "a.b", b"", b"", GROUP, limit=limit), timeout=1)


def fail(destinations: Destinations, storage: MemoryStorage, times: int = 1) -> None:
    for _ in range(times):
        destinations.failed(storage, lease(storage), None, reason="451 go away")


# -- successes -------------------------------------------------------------------------------------------------------


def test_each_success_makes_room_for_one_more(storage: Counting, destinations: Destinations) -> None:
    enqueue(storage)
    for expected in (3, 4, 5):
        destinations.succeeded(storage, job().limits, lease(storage))
        assert known(storage).limit == expected


def test_the_job_s_own_limit_is_the_bound_and_no_call_is_made_at_it(
    storage: Counting, destinations: Destinations
) -> None:
    enqueue(storage)
    for _ in range(3):
        destinations.succeeded(storage, job(concurrency=3).limits, lease(storage))
    assert known(storage).limit == 3
    storage.calls.clear()
    for _ in range(50):
        destinations.succeeded(storage, job(concurrency=3).limits, lease(storage))
    assert storage.calls == []


def test_at_its_bound_it_looks_again_after_a_while(
    storage: Counting, destinations: Destinations, clock: ManualClock
) -> None:
    enqueue(storage)
    for _ in range(3):
        destinations.succeeded(storage, job(concurrency=3).limits, lease(storage))
    fail(Destinations(clock, own=20), storage)
    assert known(storage).limit == 1
    clock.advance(2)
    destinations.succeeded(storage, job(concurrency=3).limits, lease(storage))
    assert known(storage).limit == 2


# -- failures --------------------------------------------------------------------------------------------------------


def test_three_failures_block_the_group_and_tell_why(
    storage: Counting, destinations: Destinations, caplog: pytest.LogCaptureFixture
) -> None:
    enqueue(storage)
    fail(destinations, storage, 2)
    assert known(storage).blocked_until is None
    fail(destinations, storage)
    assert known(storage).blocked_until == storage.now() + OPEN_FIRST
    assert Policy.loads(known(storage).policy).reason == "451 go away"
    assert f"group {GROUP}: the circuit breaker is open: 451 go away" in caplog.text


def test_half_open_one_probe_runs_and_its_success_lifts_the_block(
    storage: Counting, destinations: Destinations, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    enqueue(storage, 5)
    storage.open_session(SessionInfo("w", "host", 1, storage.now(), "1", workers=20), lease=60_000)
    fail(destinations, storage, 3)
    assert storage.step("w", [], want=5).leases == []
    clock.advance(OPEN_FIRST / 1000)
    (probe,) = storage.step("w", [], want=5).leases
    destinations.succeeded(storage, job().limits, probe)
    assert known(storage).blocked_until is None
    assert "the circuit breaker is closed" in caplog.text
    assert len(storage.step("w", [End(probe.id, probe.token, State.DONE)], want=5).leases) == 2


def test_a_failed_probe_opens_it_for_longer(storage: Counting, destinations: Destinations, clock: ManualClock) -> None:
    enqueue(storage)
    fail(destinations, storage, 3)
    clock.advance(OPEN_FIRST / 1000)
    fail(destinations, storage)
    assert known(storage).blocked_until == storage.now() + 2 * OPEN_FIRST


def test_those_that_hung_with_it_do_not_open_it_for_longer(
    storage: Counting, destinations: Destinations, clock: ManualClock
) -> None:
    enqueue(storage)
    held = [lease(storage) for _ in range(16)]
    clock.advance(10)
    for one in held:
        destinations.failed(storage, one, None)
    assert known(storage).blocked_until == storage.now() + OPEN_FIRST


def test_a_success_does_not_lift_what_the_destination_asked_for(storage: Counting, destinations: Destinations) -> None:
    enqueue(storage)
    destinations.failed(storage, lease(storage), 60)
    destinations.succeeded(storage, job().limits, lease(storage))
    assert known(storage).blocked_until == storage.now() + 60_000


def test_an_outage_of_the_storage_costs_no_attempt(
    storage: Counting, destinations: Destinations, caplog: pytest.LogCaptureFixture
) -> None:
    storage.away = True
    destinations.succeeded(storage, job().limits, lease(storage))
    fail(destinations, storage)
    assert caplog.text.count("its limit could not be written") == 2


# -- several processes -----------------------------------------------------------------------------------------------


def test_a_decision_that_came_in_between_is_not_overwritten(
    storage: Counting, destinations: Destinations, clock: ManualClock
) -> None:
    enqueue(storage)
    storage.rival = Destinations(clock, own=20)
    destinations.succeeded(storage, job().limits, lease(storage))
    assert known(storage).limit == 4


def test_two_processes_lose_no_success(storage: Counting, clock: ManualClock) -> None:
    enqueue(storage)

    def succeed() -> None:
        one = Destinations(clock, own=100)
        for _ in range(10):
            one.succeeded(storage, job().limits, lease(storage))

    threads = [threading.Thread(target=succeed) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: not any(thread.is_alive() for thread in threads), what="the end of all")
    assert known(storage).limit == 32


def test_the_workers_of_all_processes_count(storage: Counting, clock: ManualClock) -> None:
    enqueue(storage)
    for n in range(3):
        storage.open_session(SessionInfo(f"w{n}", "host", n, n, "1", workers=10), lease=600_000)
    one = Destinations(clock, own=10)
    for _ in range(40):
        one.succeeded(storage, job().limits, lease(storage))
    assert known(storage).limit == 24
    assert storage.calls.count("sessions") == 1
    clock.advance(11)
    storage.close_session("w2")
    one.succeeded(storage, job().limits, lease(storage))
    assert known(storage).limit == 16


# -- rates -----------------------------------------------------------------------------------------------------------


def test_a_rate_lets_so_many_start_and_blocks_the_group_until_the_next_may(
    storage: Counting, destinations: Destinations, clock: ManualClock
) -> None:
    enqueue(storage)
    limited = job(rate=3, per=10)
    for _ in range(3):
        assert destinations.allowed_at(storage, limited.limits, lease(storage)) is None
        clock.advance(1)
    allowed = destinations.allowed_at(storage, limited.limits, lease(storage))
    assert allowed == storage.now() + 7_000 == known(storage).blocked_until
    clock.advance(7)
    assert destinations.allowed_at(storage, limited.limits, lease(storage)) is None


def test_a_rate_is_shared_by_all_processes(storage: Counting, clock: ManualClock) -> None:
    limited = job(rate=2, per=10)
    answers = [Destinations(clock, own=1).allowed_at(storage, limited.limits, lease(storage)) for _ in range(4)]
    assert [answer is None for answer in answers] == [True, True, False, False]


def test_a_rate_leaves_the_limit_as_it_is(storage: Counting, destinations: Destinations) -> None:
    enqueue(storage, limit=1)
    limited = job(concurrency=1, rate=1, per=10)
    for _ in range(2):
        destinations.allowed_at(storage, limited.limits, lease(storage))
    assert known(storage).limit == 1 and known(storage).blocked_until is not None


def test_a_rate_does_not_shorten_the_pause_of_a_breaker(storage: Counting, destinations: Destinations) -> None:
    enqueue(storage)
    limited = job(rate=1, per=0.1)
    destinations.allowed_at(storage, limited.limits, lease(storage))
    fail(destinations, storage, 3)
    destinations.allowed_at(storage, limited.limits, lease(storage))
    assert known(storage).blocked_until == storage.now() + OPEN_FIRST


def test_without_a_rate_nothing_is_asked(storage: Counting, destinations: Destinations) -> None:
    assert destinations.allowed_at(storage, job(concurrency=5).limits, lease(storage)) is None
    assert storage.calls == []


# -- limits that only the job knows, and destinations that want less --------------------------------------------------


def run(storage: MemoryStorage, number: int) -> None:
    """So many instances of the group run."""
    enqueue(storage, number, limit=number)
    storage.open_session(SessionInfo("w", "host", 1, storage.now(), "1", workers=number), lease=600_000)
    assert len(storage.step("w", [], want=number).leases) == number


def test_a_limit_that_the_job_tells_holds_back_those_beyond_it_and_then_the_storage_does(
    storage: Counting, clock: ManualClock
) -> None:
    run(storage, 3)
    enter = Destinations(clock, own=3).permit(storage, lease(storage)).enter
    with pytest.raises(AttemptDeferred, match=f"group {GROUP} is at its limit of 2"):
        enter(GROUP, Limits(concurrency=2))
    assert known(storage).limit == 2
    storage.close_session("w")
    storage.open_session(SessionInfo("v", "host", 1, storage.now(), "1", workers=3), lease=600_000)
    assert len(storage.step("v", [], want=3).leases) == 2
    enter(GROUP, Limits(concurrency=2))


def test_within_a_limit_that_the_job_tells_the_storage_is_not_asked_each_time(
    storage: Counting, destinations: Destinations
) -> None:
    run(storage, 1)
    enter = destinations.permit(storage, lease(storage)).enter
    enter(GROUP, Limits(concurrency=2))
    storage.calls.clear()
    for _ in range(20):
        enter(GROUP, Limits(concurrency=2))
    assert storage.calls == []


def test_a_rate_that_the_job_tells_counts_by_the_destination(storage: Counting, clock: ManualClock) -> None:
    run(storage, 1)
    for expected in (None, None, AttemptDeferred):
        enter = Destinations(clock, own=1).permit(storage, lease(storage)).enter
        if expected is None:
            enter("smtp.other", Limits(rate=2, per=10))
        else:
            with pytest.raises(AttemptDeferred, match=r"smtp\.other is at its rate limit"):
                enter("smtp.other", Limits(rate=2, per=10))
    assert known(storage).blocked_until == storage.now() + 10_000


def test_a_storage_that_is_away_holds_back_what_has_limits(storage: Counting, destinations: Destinations) -> None:
    storage.away = True
    with pytest.raises(AttemptDeferred, match="the storage did not tell"):
        destinations.permit(storage, lease(storage)).enter(GROUP, Limits(concurrency=2))


def test_one_worker_is_told_too_many_and_both_send_fewer_until_it_grew_back(
    storage: Counting, clock: ManualClock
) -> None:
    one, other = Destinations(clock, own=20), Destinations(clock, own=20)
    enqueue(storage)
    limited = Limits(concurrency=8)
    for _ in range(10):
        one.succeeded(storage, limited, lease(storage))
    assert known(storage).limit == 8
    running = lease(storage)
    clock.advance(1)
    for destinations in (one, other, one):  # all were running when the first was told
        permit = destinations.permit(storage, running)
        permit.slowed, permit.down = "421 too many connections", DestinationDown("421 too many connections")
        destinations.ended(storage, job(), running, permit, failed("421 too many connections"))
    assert known(storage).limit == 4
    for _ in range(10):
        other.succeeded(storage, limited, lease(storage))
        one.succeeded(storage, limited, lease(storage))
    assert known(storage).limit == 4
    assert Policy.loads(known(storage).policy).reason == "421 too many connections"
    clock.advance(11)
    for _ in range(10):
        other.succeeded(storage, limited, lease(storage))
    assert known(storage).limit == 6
    clock.advance(60)
    for _ in range(10):
        one.succeeded(storage, limited, lease(storage))
    assert known(storage).limit == 8
    assert Policy.loads(known(storage).policy).reason is None


def test_a_process_keeps_no_more_to_itself_than_its_share_of_what_the_destination_takes(
    storage: Counting, clock: ManualClock
) -> None:
    run(storage, 1)
    enqueue(storage, limit=4)
    storage.open_session(SessionInfo("v", "host", 2, storage.now(), "1", workers=1), lease=600_000)
    destinations = Destinations(clock, own=1)
    permit = destinations.permit(storage, lease(storage))
    assert permit.enter(GROUP, Limits(concurrency=10)) == 5
    clock.advance(1)
    for _ in range(3):
        permit = destinations.permit(storage, lease(storage))
        permit.slowed = "421 too many connections"
        destinations.ended(storage, job(), lease(storage), permit, failed(permit.slowed))
        clock.advance(0.001)
    assert known(storage).limit == 1
    assert destinations.permit(storage, lease(storage)).enter(GROUP, Limits(concurrency=10)) == 0
    clock.advance(60)
    destinations.succeeded(storage, Limits(concurrency=10), lease(storage))
    assert destinations.permit(storage, lease(storage)).enter(GROUP, Limits(concurrency=10)) == 5


def test_a_warning_stays_with_the_group_until_a_success_without_one(
    storage: Counting, destinations: Destinations
) -> None:
    enqueue(storage)
    destinations.succeeded(storage, None, lease(storage), warning="backup takes over")
    assert Policy.loads(known(storage).policy).reason == "backup takes over"
    destinations.succeeded(storage, None, lease(storage))
    assert Policy.loads(known(storage).policy).reason is None


@pytest.mark.parametrize(("done", "seconds"), [(True, 60), (False, 600)])
def test_a_destination_is_remembered_for_a_while(
    storage: Counting, clock: ManualClock, destinations: Destinations, done: bool, seconds: float
) -> None:
    if done:
        destinations.succeeded(storage, None, lease(storage))
    else:
        fail(destinations, storage)
    clock.advance(seconds - 1)
    storage.beat("s", lease=1000)
    assert storage.group(GROUP) is not None
    clock.advance(2)
    storage.beat("s", lease=1000)
    assert storage.group(GROUP) is None
