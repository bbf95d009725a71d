"""Any interleaving of calls keeps what the contract promises; checked against a model of a few lines."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pijobs.errors import InstanceNotFound, StateConflict
from pijobs.jobs import ENDED, WAITING, State
from pijobs.storage.values import MAX_CRASHES, End, Lease

from .conftest import CLUSTER, SERVERS
from .time_travel import TimeMachine
from .workers import LONG, Worker, new_instance

JOBS = ("job.one", "job.two")
KEYS = (None, None, "key")
END_STATES = (State.DONE, State.DEAD, State.EXPIRED, State.SCHEDULED, State.QUEUED)


class Life(RuleBasedStateMachine):
    """Servers, two workers and an admin on one queue."""

    open: Callable[[], TimeMachine]
    instances: Bundle[str] = Bundle("instances")
    leases: Bundle[tuple[int, Lease]] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.machine = self.open()
        self.storage = self.machine.open()
        self.workers = [Worker(self.storage, self.machine.advance) for _ in range(2)]
        #: The model: where each instance stands, who holds it, and what else decides its next arrow.
        self.states: dict[str, State] = {}
        self.names: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        #: The keys that instances have for good, in the order of their enqueue.
        self.all_keys: dict[str, str] = {}
        self.held: dict[str, tuple[int, str]] = {}
        self.crashes: Counter[str] = Counter()
        self.removed: set[str] = set()

    def teardown(self) -> None:
        for worker in self.workers:
            self.storage.close_session(worker.session)
        self.storage.close()

    # -- servers -------------------------------------------------------------------------------------------------

    @rule(
        target=instances,
        name=st.sampled_from(JOBS),
        priority=st.integers(-2, 2),
        later=st.booleans(),
        key=st.sampled_from(KEYS),
        group=st.sampled_from(["wide", "narrow"]),
    )
    def enqueue(self, name: str, priority: int, later: bool, key: str | None, group: str) -> str:
        due = self.storage.now() + LONG if later else None
        limit = 1 if group == "narrow" else None
        new = new_instance(name=name, priority=priority, due=due, key=key, group=group, limit=limit)
        waiting = next((one for one, taken in self.keys.items() if taken == key), None)
        stored = self.storage.enqueue(new, timeout=5)
        assert (stored.id, stored.fresh, stored.replaced) == (new.id, True, waiting)
        if waiting is not None:
            self.move(waiting, State.CANCELLED)
        self.states[new.id] = State.SCHEDULED if later else State.QUEUED
        self.names[new.id] = name
        if key is not None:
            self.keys[new.id] = self.all_keys[new.id] = key
        assert stored.state is self.states[new.id]
        return new.id

    @rule(instance=instances)
    def enqueue_again(self, instance: str) -> None:
        if instance not in self.removed:
            stored = self.storage.enqueue(new_instance(id=instance), timeout=5)
            assert (stored.id, stored.state, stored.fresh) == (instance, self.states[instance], False)

    # -- workers -------------------------------------------------------------------------------------------------

    @rule(target=leases, number=st.integers(0, 1), want=st.integers(1, 3), floor=st.none() | st.integers(-2, 2))
    def lease(self, number: int, want: int, floor: int | None) -> Any:
        taken = self.workers[number].take(want, floor=floor)
        assert len(taken) <= want
        for lease in taken:
            assert self.states[lease.id] is State.QUEUED, "only what is queued may start"
            assert lease.id not in self.held, "two leases of one instance"
            assert floor is None or lease.priority >= floor
            assert lease.crashes == self.crashes[lease.id]
            self.keys.pop(lease.id, None)
            self.states[lease.id] = State.RUNNING
            self.held[lease.id] = (number, lease.token)
        return multiple(*((number, lease) for lease in taken))

    @rule(held=consumes(leases), state=st.sampled_from(END_STATES), counted=st.booleans())
    def end(self, held: tuple[int, Lease], state: State, counted: bool) -> None:
        number, lease = held
        due = self.storage.now() + LONG if state is State.SCHEDULED else None
        step = self.workers[number].step(End(lease.id, lease.token, state, counted=counted, due=due))
        if self.held.get(lease.id) == (number, lease.token):
            assert step.lost == []
            self.move(lease.id, state)
        else:
            assert step.lost == [lease.id]

    @rule(held=leases)
    def end_with_a_wrong_token(self, held: tuple[int, Lease]) -> None:
        number, lease = held
        assert self.workers[number].step(End(lease.id, "wrong", State.DONE)).lost == [lease.id]

    @rule(number=st.integers(0, 1))
    def beat(self, number: int) -> None:
        beat = self.workers[number].beat()
        assert (beat.alive, beat.ended) == (True, [])

    @rule(held=leases)
    def abandon(self, held: tuple[int, Lease]) -> None:
        number, lease = held
        ended = self.workers[number].beat(abandoned=[lease]).ended
        if self.held.get(lease.id) == (number, lease.token):
            self.crash(lease.id)
            assert {one.id: one.state for one in ended}[lease.id] is self.states[lease.id]
        else:
            assert ended == []

    @rule(number=st.integers(0, 1), crashed=st.booleans())
    def restart(self, number: int, crashed: bool) -> None:
        mine = [instance for instance, (holder, _) in self.held.items() if holder == number]
        ended = self.storage.close_session(self.workers[number].session, crashed=crashed)
        for instance in mine:
            if crashed:
                self.crash(instance, alone=len(mine) == 1)
            else:
                self.move(instance, State.QUEUED)
        if crashed:
            told = {one.id: one.state for one in ended}
            assert {one: told[one] for one in mine} == {one: self.states[one] for one in mine}
        self.workers[number] = Worker(self.storage, lambda ms: None)

    # -- an admin ------------------------------------------------------------------------------------------------

    @rule(instance=instances)
    def cancel(self, instance: str) -> None:
        self.expect(instance, WAITING, lambda: self.storage.cancel(instance, reason="by admin"), State.CANCELLED)

    @rule(instance=instances)
    def retry(self, instance: str) -> None:
        if self.expect(instance, {State.DEAD}, lambda: self.storage.retry(instance), State.QUEUED):
            self.crashes[instance] = 0

    @rule(instance=instances)
    def remove(self, instance: str) -> None:
        if self.expect(instance, ENDED, lambda: self.storage.remove(instance), State.DONE):
            self.removed.add(instance)
            del self.states[instance]

    # -- the model -----------------------------------------------------------------------------------------------

    def expect(self, instance: str, allowed: Any, action: Callable[[], None], then: State) -> bool:
        """Whether the action is allowed, after it was, or was refused."""
        if instance in self.removed:
            with pytest.raises(InstanceNotFound):
                action()
        elif self.states[instance] not in allowed:
            with pytest.raises(StateConflict):
                action()
        else:
            action()
            self.move(instance, then, by_hand=True)
            return True
        return False

    def move(self, instance: str, state: State, *, by_hand: bool = False) -> None:
        self.states[instance] = state
        self.keys.pop(instance, None)
        self.held.pop(instance, None)
        if state in WAITING and instance in self.all_keys:
            self.take_key(instance, by_hand)

    def take_key(self, instance: str, by_hand: bool) -> None:
        """Of two that wait, the one that was enqueued later stays. What comes back by itself gives way to the newest
        where that ran meanwhile, too."""
        key, order = self.all_keys[instance], list(self.all_keys)
        newest = [one for one, its in self.all_keys.items() if its == key][-1]
        if newest != instance and not by_hand and self.states.get(newest, State.CANCELLED) is not State.CANCELLED:
            self.states[instance] = State.CANCELLED
            return
        other = next((one for one, taken in self.keys.items() if taken == key), None)
        if other is not None and order.index(other) > order.index(instance):
            self.states[instance] = State.CANCELLED
            return
        if other is not None:
            self.states[other] = State.CANCELLED
            self.keys.pop(other)
        self.keys[instance] = key

    def crash(self, instance: str, *, alone: bool = True) -> State:
        """:param alone: whether nothing else ran in its process; only then it is surely to blame."""
        self.crashes[instance] += 1
        to_blame = alone and self.crashes[instance] >= MAX_CRASHES
        self.move(instance, State.DEAD if to_blame else State.QUEUED)
        return self.states[instance]

    # -- time passes ---------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 1))
    def fall_silent_and_be_found(self, number: int) -> None:
        mine = [instance for instance, (holder, _) in self.held.items() if holder == number]
        self.workers[number].beat(lease=1)
        self.machine.advance(2)
        ended = self.workers[1 - number].beat().ended
        for instance in mine:
            self.crash(instance, alone=len(mine) == 1)
        told = {one.id: one.state for one in ended}
        assert {one: told[one] for one in mine} == {one: self.states[one] for one in mine}
        assert self.workers[number].beat().alive is False
        self.workers[number] = Worker(self.storage, self.machine.advance)

    @rule()
    def let_everything_become_due(self) -> None:
        for _ in range(2):
            for worker in self.workers:
                assert worker.beat().alive
            self.machine.advance(LONG // 2 + 1)
        for _ in range(1 + len(self.states) // 20):
            # A floor that nothing reaches: promotes, leases nothing.
            assert self.workers[0].take(floor=1000) == []
        self.states = {
            instance: State.QUEUED if state is State.SCHEDULED else state for instance, state in self.states.items()
        }

    @invariant()
    def nothing_is_lost(self) -> None:
        counts = {key: number for key, number in self.storage.depths().counts.items() if number}
        assert counts == Counter((self.names[instance], state) for instance, state in self.states.items())

    @invariant()
    def sessions_hold_what_the_model_says(self) -> None:
        running = {record.info.id: set(record.running) for record in self.storage.sessions()}
        for number, worker in enumerate(self.workers):
            assert running[worker.session] == {one for one, (holder, _) in self.held.items() if holder == number}

    @invariant()
    def groups_count_what_runs_and_waits(self) -> None:
        groups = self.storage.groups()
        states = Counter(self.states.values())
        assert sum(group.running for group in groups) == states[State.RUNNING]
        assert sum(group.waiting for group in groups) == states[State.QUEUED] + states[State.SCHEDULED]
        assert all(group.limit is None or group.running <= group.limit for group in groups)


def run(machine: type[Life], examples: int, steps: int) -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    options = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=quiet,
    )
    run_state_machine_as_test(machine, settings=options)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis", CLUSTER, "postgresql", "mariadb"])
def test_life_in_storages(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = request.getfixturevalue(SERVERS[kind]) if kind in SERVERS else None

    class InStorage(Life):
        def open(self) -> TimeMachine:
            place = url or f"sqlite:///{tempfile.mkdtemp(dir=tmp_path)}/queue.sqlite"
            return TimeMachine(kind, place, f"contract-{uuid4().hex}")

    run(InStorage, examples=60 if kind == "memory" else 12, steps=60 if kind == "memory" else 40)
