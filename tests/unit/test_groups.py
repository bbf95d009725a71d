"""The policy of a group: never beyond its bounds, open after three failures, one probe, a fifth for the unproven."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pijobs import Limits
from pijobs.execution.groups import (
    DEFAULT_BOUND,
    OPEN_AFTER,
    OPEN_FIRST,
    OPEN_LONGEST,
    REGAIN,
    SHARE,
    START,
    Policy,
    after_failure,
    after_slowdown,
    after_success,
    bound,
    start_limit,
)

Outcomes = list[bool | int | None]

limits = st.none() | st.builds(Limits, concurrency=st.none() | st.integers(1, 200))
workers = st.integers(1, 300)
#: True: a success; a number: a failure, and after how many ms the destination wants to be asked again.
outcomes = st.lists(st.just(True) | st.none() | st.integers(0, 600_000), max_size=40)


class Life:
    """A group through its outcomes; each attempt begins when the last block is over."""

    def __init__(self, limits: Limits | None, workers: int) -> None:
        self.limits, self.workers = limits, workers
        self.policy = Policy(limit=start_limit(limits))
        self.now = 1_000_000
        self.blocked: int | None = None

    def succeed(self) -> None:
        self.policy = after_success(self.policy, self.limits, workers=self.workers, now=self.now)
        self.blocked = None

    def fail(self, retry_after: int | None = None, *, began: int | None = None) -> None:
        self.policy, self.blocked = after_failure(
            self.policy, now=self.now, began=self.now if began is None else began, workers=self.workers,
            retry_after=retry_after,
        )  # fmt: skip

    def slow_down(self, *, down: bool = False, began: int | None = None) -> None:
        self.policy, self.blocked = after_slowdown(
            self.policy, now=self.now, began=self.now if began is None else began, workers=self.workers, down=down,
            reason="too many at once",
        )  # fmt: skip

    def live(self, outcomes: Outcomes) -> None:
        for outcome in outcomes:
            if outcome is True:
                self.succeed()
            else:
                self.fail(outcome)
            self.now = max(self.now + 1, self.blocked or 0)


@given(limits, workers, outcomes)
def test_the_limit_stays_between_one_and_its_bound(limits: Limits | None, workers: int, outcomes: Outcomes) -> None:
    life = Life(limits, workers)
    life.live(outcomes)
    assert 1 <= life.policy.limit <= bound(limits)


@given(limits, workers, outcomes)
def test_the_breaker_is_open_exactly_after_three_failures_in_a_row(
    limits: Limits | None, workers: int, outcomes: Outcomes
) -> None:
    life = Life(limits, workers)
    life.live(outcomes)
    in_a_row = next((n for n, outcome in enumerate(reversed(outcomes)) if outcome is True), len(outcomes))
    assert life.policy.failures == in_a_row
    assert (life.policy.breaker == "open") == (in_a_row >= OPEN_AFTER)
    assert life.policy.opened == max(0, in_a_row - OPEN_AFTER + 1)


@given(limits, workers, outcomes)
def test_an_open_breaker_lets_one_probe_through_when_its_pause_is_over(
    limits: Limits | None, workers: int, outcomes: Outcomes
) -> None:
    life = Life(limits, workers)
    life.live([*outcomes, None, None])
    before = life.now
    life.fail()
    assert life.policy.limit == 1 and life.policy.breaker == "open"
    assert life.blocked is not None and OPEN_FIRST <= life.blocked - before <= OPEN_LONGEST


@given(limits, workers, outcomes)
def test_a_successful_probe_closes_the_breaker_and_the_group_begins_anew(
    limits: Limits | None, workers: int, outcomes: Outcomes
) -> None:
    life = Life(limits, workers)
    life.live([*outcomes, None, None, None])
    life.succeed()
    assert life.policy == Policy(limit=start_limit(limits), proven=True)


@given(limits, workers, outcomes)
def test_a_group_that_failed_holds_at_most_its_share_of_the_workers(
    limits: Limits | None, workers: int, outcomes: Outcomes
) -> None:
    life = Life(limits, workers)
    life.live([*outcomes, None])
    assert life.policy.limit <= max(1, workers // SHARE)
    assert not life.policy.proven


@given(limits, workers, outcomes)
def test_no_group_takes_all_of_five_workers_or_more(limits: Limits | None, workers: int, outcomes: Outcomes) -> None:
    life = Life(limits, workers)
    life.live([*outcomes, *[True] * 300])
    assert life.policy.limit <= max(START, workers - workers // SHARE)
    if workers >= SHARE:
        assert life.policy.limit < workers


@given(limits, workers)
def test_a_group_that_succeeds_gains_one_at_a_time(limits: Limits | None, workers: int) -> None:
    life = Life(limits, workers)
    seen = [life.policy.limit]
    for _ in range(300):
        life.succeed()
        seen.append(life.policy.limit)
    assert all(0 <= later - earlier <= 1 for earlier, later in itertools.pairwise(seen))
    assert seen[-1] == min(bound(limits), max(START, workers - workers // SHARE))


def test_a_failure_halves_the_limit() -> None:
    policy, blocked = after_failure(Policy(limit=20, proven=True), now=0, began=0, workers=100)
    assert (policy.limit, policy.failures, policy.breaker, blocked) == (10, 1, "closed", None)


def test_pauses_double_up_to_a_minute() -> None:
    life = Life(None, 20)
    pauses = []
    for _ in range(9):
        life.fail()
        if life.blocked is not None:
            pauses.append(life.blocked - life.now)
            life.now = life.blocked
    assert pauses == [5_000, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000]


def test_a_destination_that_says_when_to_come_back_is_left_alone_until_then() -> None:
    life = Life(None, 20)
    life.fail(retry_after=90_000)
    assert (life.blocked, life.policy.opened) == (life.now + 90_000, 0)
    life.fail()
    life.fail(retry_after=90_000)
    assert (life.blocked, life.policy.opened) == (life.now + 90_000, 1)
    assert life.blocked is not None
    life.now += 90_000
    life.fail(retry_after=1)
    assert life.blocked == life.now + 10_000


def test_a_destination_that_wants_fewer_at_once_is_given_half_as_many_and_more_with_time() -> None:
    life = Life(Limits(concurrency=16), 100)
    life.live([True] * 20)
    assert life.policy.limit == 16
    life.slow_down()
    assert (life.policy.limit, life.policy.failures, life.policy.reason) == (8, 0, "too many at once")
    for more in range(8):
        life.live([True] * 20)
        assert life.policy.limit == 8 + more
        life.now += REGAIN - 20
    life.live([True] * 20)
    assert (life.policy.limit, life.policy.slowed_to, life.policy.reason) == (16, None, None)


def test_attempts_that_were_too_many_together_halve_the_limit_once() -> None:
    life = Life(None, 100)
    life.live([True] * 20)
    began = life.now
    for _ in range(5):
        life.now += 1
        life.slow_down(down=True, began=began)
    assert life.policy.limit == 11
    life.slow_down(down=True)
    assert (life.policy.limit, life.policy.failures) == (5, 0)


def test_one_that_takes_nothing_though_there_is_one_at_a_time_is_down() -> None:
    life = Life(None, 100)
    for _ in range(1 + OPEN_AFTER):
        life.now += 1
        life.slow_down(down=True)
    assert (life.policy.limit, life.policy.breaker) == (1, "open")
    assert life.blocked is not None
    life.now = life.blocked
    life.slow_down(down=True)
    assert life.policy.opened == 2


def test_one_that_fails_after_it_wanted_fewer_is_not_given_too_many_again() -> None:
    life = Life(None, 100)
    life.live([True] * 20)
    while life.policy.limit > 1:
        life.now += 1
        life.slow_down(down=True)
    slowed_at = life.now
    life.live([None] * OPEN_AFTER)
    assert life.policy.breaker == "open"
    for _ in range(20):
        life.now += 100
        life.succeed()
        assert life.policy.limit <= 1 + (life.now - slowed_at) // REGAIN
        assert life.policy.reason == "too many at once"


@given(limits, workers, st.lists(st.sampled_from(["success", "failure", "slow", "down"]), max_size=40))
def test_no_order_of_events_leaves_the_bounds(limits: Limits | None, workers: int, events: list[str]) -> None:
    life = Life(limits, workers)
    for event in events:
        before = life.policy.limit
        if event in ("success", "failure"):
            life.live([True if event == "success" else None])
        else:
            life.slow_down(down=event == "down")
            assert life.policy.limit <= before
        life.now += 100
        assert 1 <= life.policy.limit <= bound(limits)


def test_attempts_that_fail_together_open_the_breaker_once() -> None:
    life = Life(None, 20)
    began = life.now
    life.now += 10_000
    for _ in range(3):
        life.fail(began=began)
    first = life.blocked
    assert first == life.now + OPEN_FIRST
    for _ in range(13):
        life.now += 10
        life.fail(began=began)
        assert life.blocked is None  # no longer than it is
    assert life.policy.opened == 1


def test_an_attempt_that_ends_after_the_pause_but_began_before_it_is_no_probe() -> None:
    life = Life(None, 20)
    began = life.now
    life.live([None, None, None])
    before = life.policy
    life.now += 60_000
    life.fail(began=began)
    assert life.policy == before


@given(limits, workers, outcomes)
def test_the_memory_of_a_policy_survives_the_storage(limits: Limits | None, workers: int, outcomes: Outcomes) -> None:
    life = Life(limits, workers)
    life.live(outcomes)
    assert Policy.loads(life.policy.dumps()) == life.policy


def test_a_memory_that_nobody_understands_begins_anew() -> None:
    for text in ("", "{", "junk", "[1]", "null", "7", '{"limit": "x"}', '{"limit": 0}', '{"limit": 2.5}'):
        assert Policy.loads(text) == Policy()
    assert Policy.loads('{"limit":2,"opened":1,"opened_at":99999999999999999999999}') == Policy()
    assert Policy.loads('{"limit": 3, "of another release": 1}') == Policy(limit=3)


def test_without_limits_a_group_begins_with_two_and_has_a_bound() -> None:
    assert (start_limit(None), bound(None)) == (START, DEFAULT_BOUND)
    assert (start_limit(Limits(concurrency=1)), bound(Limits(concurrency=1))) == (1, 1)
    assert (start_limit(Limits(rate=5)), bound(Limits(rate=5))) == (START, DEFAULT_BOUND)
