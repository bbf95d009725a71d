"""Histories with seeds that every run plays; ``make simulate HISTORIES=…`` plays others."""

from __future__ import annotations

import pytest

from pijobs.base import forks
from pijobs.testing.simulation import plan as plans
from pijobs.testing.simulation.history import play
from pijobs.testing.simulation.kinds import kind
from pijobs.testing.simulation.plan import Call, Fault, Plan

from .mutations import MUTATIONS, first_seed, mutated
from .simulate import shortened

#: Histories of one test, and tests; the first ones are played by ``make quick``, too.
BATCH, BATCHES, QUICK = 50, 20, 2


def assert_kept(first: int, number: int, storage: str = "memory", url: str = "") -> None:
    with kind(storage, url) as make_place:
        for seed in range(first, first + number):
            broken = play(plans.make(seed), make_place=make_place).broken
            assert broken is None, f"{broken}; 'make simulate SEED={seed} STORAGE={storage}' tells the story"


@pytest.mark.parametrize(
    "batch", [pytest.param(batch, marks=[] if batch < QUICK else pytest.mark.slow) for batch in range(BATCHES)]
)
def test_every_promise_is_kept_in_memory(batch: int) -> None:
    assert_kept(1 + batch * BATCH, BATCH)


def test_nothing_of_a_history_is_left_where_this_process_forks() -> None:
    before = dict(vars(forks.gate))
    assert_kept(1, 3, "sqlite")
    assert vars(forks.gate) == before


@pytest.mark.slow
def test_every_promise_is_kept_in_sqlite() -> None:
    assert_kept(1, 6, "sqlite")


def test_no_connection_to_a_file_is_open_at_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tuple(Call(float(number), 0, number, "sim.job") for number in range(1, 5))
    plan = Plan(1, (1,), 1, 1, False, (), calls=calls, faults=(Fault(2.5, "fork", "server 0"),))
    with kind("sqlite") as make_place:
        assert play(plan, make_place=make_place).broken is None
        monkeypatch.setattr(forks.Gate, "_close_idle", lambda self: None)
        broken = play(plan, make_place=make_place).broken
    assert broken is not None and broken.rule == "fork"


@pytest.mark.slow
def test_every_promise_is_kept_in_redis(redis_url: str) -> None:
    assert_kept(1, 6, "redis", redis_url)


@pytest.mark.slow
def test_every_promise_is_kept_in_postgresql(postgresql_url: str) -> None:
    assert_kept(1, 3, "postgresql", postgresql_url)


@pytest.mark.parametrize("seconds", [6.0, 10.5, 12.0])
def test_an_outage_is_nobodys_death_where_each_worker_tries_to_connect_at_another_time(seconds: float) -> None:
    calls = tuple(Call(1.0 + number / 10, 0, number, "sim.job", "slow", 1.0) for number in range(1, 4))
    later = tuple(Call(1.7 + seconds + number, 0, 10 + number, "sim.job") for number in range(6))
    outage = Fault(1.6, "silent", "storage", seconds)
    plan = Plan(1, (1, 1, 1), 1, 1, False, (), connections=True, calls=calls + later, faults=(outage,))
    assert play(plan).broken is None


def test_a_seed_is_one_history() -> None:
    plan = plans.make(7)
    first, second = (play(plan, telling=True) for _ in range(2))
    assert first.story == second.story and first.steps == second.steps > 100


def test_a_fault_is_found_and_its_story_is_short() -> None:
    name = "limit-not-bounded"
    found = first_seed(name, 100)
    assert found is not None, f"{MUTATIONS[name].what}: nothing found that it is missing"
    with mutated(name):
        plan, outcome = shortened(found[0])
    assert outcome.broken is not None and outcome.broken.rule == "limit"
    assert len(plan.calls) <= 3
    assert any("BROKEN" in what for _, _, what in outcome.story)
    assert play(plan).broken is None


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mend_can_be_taken_out(name: str) -> None:
    with mutated(name):
        assert MUTATIONS[name].patches()
