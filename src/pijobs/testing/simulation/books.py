"""What was promised and what happened, and whether the two fit: the judges of a history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pijobs.errors import InstanceNotFound
from pijobs.jobs import ENDED, State
from pijobs.storage.contract import Record, Storage
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.values import MAX_CRASHES, SAME_TIME
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.plan import LEASE, Call
from pijobs.testing.simulation.world import Process, Task, World

#: What ends without an effect by its own fault.
GUILTY = ("fail", "unprintable", "kill", "hang")


class Broken(AssertionError):
    """A promise was broken."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


@dataclass
class Entry:
    """One call, and what became of it."""

    call: Call
    began: float
    returned: float | None = None
    id: str | None = None
    state: str | None = None
    via: str | None = None
    #: Whether it raised that nobody took it.
    refused: bool = False
    #: When each attempt began; each effect: when, and when its attempt began.
    attempts: list[float] = field(default_factory=list)
    effects: list[tuple[float, float]] = field(default_factory=list)
    #: How often its process was killed, or frozen for longer than a lease, while it ran.
    cut_off: int = 0
    retried: int = 0
    cancelled: bool = False
    removed: bool = False
    damaged: bool = False

    @property
    def acknowledged(self) -> bool:
        return self.id is not None and self.via in ("storage", "spool")

    def __str__(self) -> str:
        return str(self.call)


@dataclass(eq=False)
class Run:
    """An attempt that is going on."""

    entry: Entry
    task: Task
    began: float
    group: str
    instance_id: str


class Books:
    """The books of one history."""

    def __init__(self, world: World, places: list[Place]) -> None:
        self.world, self.places = world, places
        self.storage = places[0]
        self.entries: dict[int, Entry] = {}
        self.runs: list[Run] = []
        self.ticks: dict[str, int] = {}
        #: By the ids of their instances, as soon as these are known.
        self.ids: dict[str, Entry] = {}
        self.starts: dict[str, list[float]] = {}
        #: Whether a clock was set in this history, or a storage lost something: some promises can't be judged then.
        self.clocks_were_set = False
        #: Those that the storage returned to the queue after it was restored, and so on, may run again.
        self.broken: Broken | None = None
        for place in places:
            place.on_step = self._on_step(place)

    # -- what is entered -----------------------------------------------------------------------------------------

    def calls(self, call: Call) -> Entry:
        entry = self.entries[call.number] = Entry(call, self.world.now)
        self.world.tell(str(call))
        return entry

    def returns(self, entry: Entry, handle: Any) -> None:
        self.ids[handle.id] = entry
        entry.returned, entry.id, entry.state, entry.via = self.world.now, handle.id, handle.state.value, handle.via
        self.world.tell(f"call {entry.call.number} -> {entry.state} by {entry.via} ({handle.id[:8]})")

    def attempts(self, number: int) -> int:
        return len(self.entries[number].attempts)

    @contextmanager
    def running(self, ctx: Any, number: int, how: str) -> Iterator[None]:
        """A job's function has begun."""
        entry, task = self.entries[number], self.world.current
        assert task is not None
        run = Run(entry, task, self.world.now, entry.call.place, ctx.id)
        self.world.tell(f"call {number} begins (attempt {ctx.attempt}, crashes {ctx.crashes})")
        entry.attempts.append(self.world.now)
        self.ids[ctx.id] = entry
        self._judge_start(run, ctx)
        self.runs.append(run)
        try:
            yield
        finally:
            if not self.world.over:
                self.runs.remove(run)

    def took_down(self, task: Task | None) -> None:
        assert task is not None
        self.world.tell("the job takes down its process")
        self.cut(task.process)

    def cut(self, process: Process) -> None:
        """A process is killed, or frozen for longer than a lease."""
        for place in self.places:
            for record in place.truth.page(State.RUNNING, limit=1000).records:
                if record.session is not None and place.sessions.get(record.session) is process:
                    self._by_id(record.id).cut_off += 1
        if not process.alive:
            self.runs = [run for run in self.runs if run.task.process is not process]

    def _by_id(self, instance_id: str) -> Entry:
        return self.ids.get(instance_id) or Entry(Call(0, 0, 0, "sim.tick"), 0)

    def effect(self, ctx: Any, number: int) -> None:
        entry, now, task = self.entries[number], self.world.now, self.world.current
        assert task is not None
        began = next(run.began for run in self.runs if run.task is task)
        self.world.tell(f"call {number} has its effect")
        self._judge_effect(entry, ctx, began, task.process)
        entry.effects.append((now, began))

    def ticked(self, ctx: Any) -> None:
        self.ticks[ctx.id] = self.ticks.get(ctx.id, 0) + 1

    # -- judged at each step -------------------------------------------------------------------------------------

    def breaks(self, rule: str, text: str) -> None:
        if self.broken is None and not self.world.over:
            self.broken = Broken(rule, text)
            self.world.tell(f"BROKEN: {rule}: {text}")

    def _judge_start(self, run: Run, ctx: Any) -> None:
        entry = run.entry
        if ctx.deadline is not None and ctx._now() > ctx.deadline + 0.001:
            self.breaks("late", f"{entry} began after its deadline")
        early = self.world.now < entry.began + (entry.call.delay or 0) - 0.01
        if early and not self.clocks_were_set and not self._in_request(run.task.process):
            self.breaks("early", f"{entry} began before its delay was over")
        if self._in_request(run.task.process):
            return
        if entry.call.job == "sim.single":
            for other in self.runs:
                if other.group == run.group and other.entry.call.job == "sim.single" and self._side_by_side(run, other):
                    self.breaks("limit", f"{entry} runs beside {other.entry}, though its group allows one")
        if entry.call.job == "sim.rated" and self._place_of(run) is self.storage:
            starts = self.starts.setdefault(run.group, [])
            starts.append(self.world.now)
            # Seconds that pass between the question for the rate and the start.
            window = [start for start in starts if start > self.world.now - 2.0 + 0.7]
            if len(window) > 3 and not self._unjudgeable():
                self.breaks(
                    "rate", f"{entry} is the {len(window)}th start of its group within 1.3 s, 3 in 2 s are allowed"
                )

    def _judge_effect(self, entry: Entry, ctx: Any, began: float, process: Process) -> None:
        now, call = self.world.now, entry.call
        lifetime = call.expires if call.expires is not None else (3.0 if call.job == "sim.code" else None)
        if lifetime is not None and not self.clocks_were_set:
            # The deadline counts from the call's beginning, or a little later.
            latest = (entry.returned if entry.returned is not None else now) + lifetime
            if now > latest + 0.01:
                self.breaks("late", f"{entry} had its effect {now - latest:.2f} s after its deadline")
        if ctx.deadline is not None and ctx._now() > ctx.deadline + 0.001:
            self.breaks("late", f"{entry} had its effect after its deadline")
        if not self._in_request(process):
            held = self._held(ctx.id, process)
            if not held and not self._unjudgeable():
                self.breaks("lease", f"{entry} had its effect in {process.name}, which held no lease of it any more")
        self._judge_key(entry, began)
        self._judge_twice(entry, ctx)

    def _judge_twice(self, entry: Entry, ctx: Any) -> None:
        allowed = entry.cut_off + entry.retried + len(self.storage.losses) * 10
        allowed += self._doubts(ctx.id)
        if len(entry.effects) > allowed:
            self.breaks(
                "twice", f"{entry} had its effect {len(entry.effects) + 1} times, {allowed + 1} can be explained"
            )

    def _doubts(self, instance_id: str) -> int:
        return sum(place.doubts.count(instance_id) for place in self.places)

    def _judge_key(self, entry: Entry, began: float) -> None:
        key = entry.call.key
        if key is None or self.clocks_were_set or entry.via != "storage":
            return
        for other in self.entries.values():
            same = (other.call.key, other.call.job) == (key, entry.call.job) and other is not entry
            same = same and other.via == "storage"
            newer = same and other.began > (entry.returned or 0) + SAME_TIME / 1000
            came_after = newer and other.returned is not None and other.effects and began > other.returned
            if came_after and not self.storage.losses:
                self.breaks("key", f"{entry} began and had its effect after that of the newer {other}")

    def _on_step(self, place: Place) -> Any:
        def judge(process: Process, want: int, floor: int | None, step: Any) -> None:
            if self.world.telling:
                for lease in step.leases:
                    self.world.tell(f"leases {lease.id[:8]} from the {place.name}", process.name)
            truth = place.truth
            if isinstance(truth, MemoryStorage) and want and step.leases:
                self._judge_order(truth, step, floor)

        return judge

    def _judge_order(self, truth: MemoryStorage, step: Any, floor: int | None) -> None:
        priorities = [lease.priority for lease in step.leases]
        now = truth.now()
        ready = next((item for item in truth._ready(floor, now) if not item.overdue(now)), None)
        if priorities != sorted(priorities, reverse=True):
            self.breaks("order", f"leased with priorities {priorities}")
        if ready is not None and ready.new.priority > priorities[-1]:
            self.breaks("order", f"priority {priorities[-1]} was leased while {ready.new.priority} was ready")

    # -- what is true --------------------------------------------------------------------------------------------

    def _unjudgeable(self) -> bool:
        return self.clocks_were_set or any(place.losses for place in self.places)

    def _in_request(self, process: Process) -> bool:
        return process.name.startswith("server")

    def _holds(self, run: Run) -> bool:
        frozen = run.task.process.frozen_until > self.world.now
        return run.task.process.alive and not frozen and self._held(run.instance_id, run.task.process)

    def _side_by_side(self, run: Run, other: Run) -> bool:
        """Whether both hold leases of one storage."""
        if other.entry is run.entry or self._in_request(other.task.process):
            return False
        return self._holds(other) and self._holds(run) and self._place_of(other) is self._place_of(run)

    def _place_of(self, run: Run) -> Place | None:
        for place in self.places:
            if (record := record_of(place.truth, run.instance_id)) and record.state is State.RUNNING:
                return place
        return None

    def _held(self, instance_id: str, process: Process) -> bool:
        for place in self.places:
            record = record_of(place.truth, instance_id)
            runs = record is not None and record.state is State.RUNNING
            if runs and record is not None and place.sessions.get(record.session or "") is process:
                return True
        return False

    # -- judged at the end ---------------------------------------------------------------------------------------

    def found(self, entry: Entry) -> tuple[Place, Record] | None:
        assert entry.id is not None
        known = [(place, record) for place in self.places if (record := record_of(place.truth, entry.id))]
        # The hold of what was moved and not forgotten yet is over long ago; what ended counts.
        known.sort(key=lambda pair: pair[1].state in ENDED, reverse=True)
        return known[0] if known else None

    def unfinished(self) -> bool:
        """Whether something waits or runs, acknowledged or not."""
        states = (State.RUNNING, State.QUEUED, State.SCHEDULED)
        return any(place.truth.page(state, limit=1).records for place in self.places for state in states)

    def judge_all(self) -> None:
        """When all has ended that can."""
        for entry in self.entries.values():
            self._judge_end(entry)
        for instance_id, number in self.ticks.items():
            record = record_of(self.storage.truth, instance_id)
            crashes = crashes_of(record) if record else 9
            if number > 1 + crashes and not self._unjudgeable():
                self.breaks("twice", f"the periodic {instance_id} had its effect {number} times")
        for place in self.places:
            self._judge_place(place)

    def _judge_end(self, entry: Entry) -> None:
        if entry.returned is None and not entry.refused:
            return  # its server was killed
        if entry.via == "direct":
            if (entry.state == "done") != bool(entry.effects) and not self._doubts(entry.id or ""):
                self.breaks(
                    "truth", f"{entry} ran in the request, ended {entry.state}, with {len(entry.effects)} effects"
                )
            return
        if not entry.acknowledged or entry.removed:
            return
        found = self.found(entry)
        if found is None:
            if not self._unjudgeable():
                self.breaks("lost", f"{entry} was acknowledged, and nobody knows of it any more")
            return
        record = found[1]
        if record.state not in ENDED:
            self.breaks("starved", f"{entry} is {record.state} still: {record.reason}")
        elif record.state is State.DONE and not entry.effects:
            self.breaks("truth", f"{entry} is done without its effect")
        elif record.state is not State.DONE and entry.effects and not self._explained(entry, record):
            self.breaks("truth", f"{entry} had its effect, and is {record.state}: {record.reason}")
        elif record.state is State.DEAD:
            self._judge_death(entry, record)
        elif record.state is State.EXPIRED and entry.call.expires is None and entry.call.job != "sim.code":
            self.breaks("truth", f"{entry} has no deadline, and expired")
        elif record.state is State.CANCELLED and not entry.cancelled and entry.call.key is None:
            self.breaks("truth", f"{entry} was cancelled by nobody: {record.reason}")

    def _explained(self, entry: Entry, record: Record) -> bool:
        return bool(entry.cut_off or entry.retried or self._unjudgeable() or self._doubts(record.id))

    def _judge_death(self, entry: Entry, record: Record) -> None:
        if entry.call.how in GUILTY or entry.damaged:
            return
        failures = 4 if entry.call.how in ("flaky", "down", "retry") else 9
        if record.attempts >= failures and entry.cut_off:  # it failed, and was cut off in between
            return
        if entry.cut_off >= MAX_CRASHES or (self._unjudgeable() and entry.cut_off):
            return
        self.breaks("innocent", f"{entry} is dead, after {entry.cut_off} cuts of its process: {record.reason}")

    def _judge_place(self, place: Place) -> None:
        truth = place.truth
        faults = [fault for audit in truth.check() for fault in audit.faults]
        if faults:
            self.breaks("audit", f"the {place.name} holds what does not fit: {faults[0].id}: {faults[0].what}")
        depths = truth.depths()
        for state in State:
            counted = sum(number for (_, one), number in depths.counts.items() if one is state)
            listed = len(truth.page(state, limit=1000).records)
            if counted != listed:
                self.breaks("totals", f"the {place.name} counts {counted} {state}, and lists {listed}")
        running = truth.page(State.RUNNING, limit=1).records
        if running and not self._unfinished_business(running):
            self.breaks("left over", f"the {place.name} holds {running[0].id} as running")
        for record in truth.sessions():
            process = place.sessions.get(record.info.id)
            if process is None or not process.alive:
                self.breaks("left over", f"the {place.name} holds the session of a process that is gone")
        for group in truth.groups():
            if group.running and not running:
                self.breaks("left over", f"group {group.name} counts {group.running} as running, and none is")

    def _unfinished_business(self, records: list[Record]) -> bool:
        return all(record.name == "sim.tick" for record in records)


def record_of(storage: Storage, instance_id: str) -> Record | None:
    try:
        return storage.get(instance_id)
    except InstanceNotFound:
        return None


def crashes_of(record: Record) -> int:
    return sum(json.loads(line).get("event") == "crashed" for line in record.history)


__all__ = ["LEASE", "Books", "Broken", "Entry"]
