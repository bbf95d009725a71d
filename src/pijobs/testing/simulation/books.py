"""The record of a history's calls, attempts and effects, and the judges of each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pijobs.jobs import State
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.values import SAME_TIME
from pijobs.testing.simulation.entries import Broken, Entry, Run, record_of
from pijobs.testing.simulation.jobs import TIMEOUT
from pijobs.testing.simulation.last_judgement import LastJudgement
from pijobs.testing.simulation.order import judge_order, judge_what_is_left
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.plan import LEASE, Call
from pijobs.testing.simulation.world import Process, Task, World

#: Most seconds that a request may wait for an enqueue: the time-outs of storage and spool, and the time for reporting
#: ends and counts and for the mover. A job that runs in the request takes its own time in addition.
ENQUEUE = 1.25


class Books(LastJudgement):
    """The books of one history."""

    def __init__(self, world: World, places: list[Place]) -> None:
        self.world, self.places = world, places
        self.storage = places[0]
        self.entries: dict[int, Entry] = {}
        self.runs: list[Run] = []
        self.ticks: dict[str, int] = {}
        #: Entries by instance id, once the id is known.
        self.ids: dict[str, Entry] = {}
        self.starts: dict[str, list[float]] = {}
        #: The time of the last lease, by instance.
        self.leased: dict[str, float] = {}
        #: Whether a clock was set in this history: then some promises can't be judged.
        self.clocks_were_set = False
        #: Instances with a damaged record.
        self.damaged: set[str] = set()
        #: The end of the last fault, and the number of present faults.
        self.last_trouble, self.troubles = -100.0, 0
        self.broken: Broken | None = None
        for place in places:
            place.on_step = self._on_step(place)

    # -- what is entered -----------------------------------------------------------------------------------------

    def calls(self, *calls: Call) -> list[Entry]:
        """Enter calls that are made together."""
        process = None if self.world.current is None else self.world.current.process
        entries = [Entry(call, self.world.now, process) for call in calls]
        for entry in entries:
            self.entries[entry.call.number] = entry
            self.world.tell(str(entry.call))
        return entries

    def returns(self, entries: list[Entry], handles: list[Any]) -> None:
        for entry, handle in zip(entries, handles, strict=True):
            self.ids[handle.id] = entry
            entry.returned, entry.id, entry.state, entry.via = self.world.now, handle.id, handle.state.value, handle.via
            self.world.tell(f"call {entry.call.number} -> {entry.state} by {entry.via} ({handle.id[:8]})")
            if entry.via == "spool" and entry.lifetime is not None and not self._worker_lives(entry):
                self.breaks("spool", f"{entry} has a deadline, and went to a spool that no worker empties")
        self._judge_patience(entries)

    def refuses(self, entries: list[Entry]) -> None:
        for entry in entries:
            entry.refused, entry.returned = True, self.world.now
            self.world.tell(f"call {entry.call.number} is refused")
        self._judge_patience(entries)

    def _judge_patience(self, entries: list[Entry]) -> None:
        """Judge how long the request waited for the queue, without the jobs that ran in it."""
        assert self.world.current is not None
        entry = entries[0]
        if any(one.via == "direct" and one.call.kwargs is not None for one in entries):
            return  # a plugin's job, of unknown duration
        took = self.world.now - entry.began - sum(ended - began for one in entries for began, ended in one.in_request)
        if took > ENQUEUE and self.world.current.process.frozen_until < entry.began:
            self.breaks("patience", f"{entry} took {took:.2f} s of its request, {ENQUEUE:g} s are allowed")

    def _worker_lives(self, entry: Entry) -> bool:
        """Whether a worker of the caller's host lived within the last lease before the call."""
        assert self.world.current is not None
        host, since = self.world.current.process.host, entry.began - LEASE - 0.5
        workers = [one for one in self.world.processes if one.host is host and one.name.startswith("worker")]
        return any(one.alive or one.died > since for one in workers)

    def attempts(self, number: int) -> int:
        return len(self.entries[number].attempts)

    @contextmanager
    def running(self, ctx: Any, number: int) -> Iterator[None]:
        """Enter an attempt while its function runs."""
        entry, task = self.entries[number], self.world.current
        assert task is not None
        run = Run(entry, task, self.world.now, entry.call.place, ctx.id, ctx.crashes)
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
            if self.in_request(task.process):
                entry.in_request.append((run.began, self.world.now))

    def took_down(self, task: Task | None) -> None:
        assert task is not None
        self.world.tell("the job takes down its process")
        self.cut(task.process)

    def cut(self, process: Process, frozen: float | None = None) -> None:
        """Enter that a process was killed, or frozen so long (seconds) that its leases or its jobs' timeouts end."""
        for place in self.places:
            running = place.truth.page(State.RUNNING, limit=1000).records
            for record in running:
                if place.sessions.get(record.session or "") is process:
                    if frozen is not None and self._by_id(record.id).call.seconds + frozen < TIMEOUT - 0.3:
                        continue
                    alone = sum(one.session == record.session for one in running) == 1
                    self._by_id(record.id).cuts.append(alone)
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
        # A retry starts at once.
        if early and not entry.retried and not self.clocks_were_set and not self.in_request(run.task.process):
            self.breaks("early", f"{entry} began before its delay was over")
        if self.in_request(run.task.process):
            return
        if entry.call.job == "sim.single":
            for other in self.runs:
                if other.group == run.group and other.entry.call.job == "sim.single" and self._side_by_side(run, other):
                    self.breaks("limit", f"{entry} runs beside {other.entry}, though its group allows one")
        self._judge_company(run)
        spooled = self._place_of(run) not in (self.storage, None)
        known = record_of(self.storage.truth, run.instance_id) if spooled and self.is_quiet(LEASE) else None
        ended = known.ended if known is not None and known.state is State.DONE else None
        if ended is not None and ended < (self.storage.time() - 1.0) * 1000:
            self.breaks("spool", f"{entry} begins from a spool, though the storage has it as done")
        if entry.call.job == "sim.rated" and self._place_of(run) is self.storage:
            starts = self.starts.setdefault(run.group, [])
            starts.append(self.world.now)
            # 0.7 s may pass between the check of the rate and the start.
            window = [start for start in starts if start > self.world.now - 2.0 + 0.7]
            if len(window) > 3 and not self._unjudgeable():
                self.breaks(
                    "rate", f"{entry} is the {len(window)}th start of its group within 1.3 s, 3 in 2 s are allowed"
                )

    def is_quiet(self, seconds: float) -> bool:
        """Whether there was no fault in the last ``seconds``."""
        return not self.troubles and self.world.now - self.last_trouble > seconds

    def _judge_company(self, run: Run) -> None:
        """An instance whose worker crashed runs alone in its process."""
        for other in self.runs:
            suspect = (run.crashes or other.crashes) and other.task.process is run.task.process
            # The worker gives up an instance after its timeout; the storage learns that a little later.
            given_up = self.world.now - other.began >= TIMEOUT - 0.01 or other.entry is run.entry
            if suspect and not given_up and self._holds(other) and self._holds(run):
                self.breaks("alone", f"{run.entry} runs beside {other.entry}, one of which went down with a worker")

    def _judge_effect(self, entry: Entry, ctx: Any, began: float, process: Process) -> None:
        now, lifetime = self.world.now, entry.lifetime
        if lifetime is not None and not self.clocks_were_set:
            # The deadline counts from the begin of the call, or a little later.
            latest = (entry.returned if entry.returned is not None else now) + lifetime
            if now > latest + 0.01:
                self.breaks("late", f"{entry} had its effect {now - latest:.2f} s after its deadline")
        if ctx.deadline is not None and ctx._now() > ctx.deadline + 0.001:
            self.breaks("late", f"{entry} had its effect after its deadline")
        if not self.in_request(process):
            if now - began > TIMEOUT + 1.0:
                self.breaks(
                    "timeout", f"{entry} had its effect {now - began:.1f} s after it began, {TIMEOUT:g} s are allowed"
                )
            held = self._held(ctx.id, process)
            if not held and not self._unjudgeable():
                self.breaks("lease", f"{entry} had its effect in {process.name}, which held no lease of it any more")
        self._judge_key(entry, ctx.id)
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

    def _judge_key(self, entry: Entry, instance_id: str) -> None:
        """An older instance of a key may take effect if it was leased before the newer one came, but not if later."""
        leased = self.leased.get(instance_id)
        if entry.call.key is None or leased is None or entry.via != "storage" or entry.retried or self._unjudgeable():
            return
        for other in self.entries.values():
            same = (other.call.key, other.call.job) == (entry.call.key, entry.call.job) and other is not entry
            is_newer = other.returned is not None and other.began > (entry.returned or 0) + SAME_TIME / 1000
            if not (same and is_newer and other.effects and other.via == "storage"):
                continue
            if leased > (other.returned or 0) and not (other.cancelled or other.removed):
                self.breaks("key", f"{entry} was leased and had its effect after that of the newer {other}")

    def _on_step(self, place: Place) -> Any:
        def judge(process: Process, want: int, floor: int | None, step: Any) -> None:
            for lease in step.leases:
                if place is self.storage:
                    self.leased[lease.id] = self.world.now
                if self.world.telling:
                    self.world.tell(f"leases {lease.id[:8]} from the {place.name}", process.name)
            truth = place.truth
            if want and step.leases:
                if isinstance(truth, MemoryStorage):
                    judge_order(truth, step, floor, self.breaks)
                else:
                    judge_what_is_left(place, step, self.breaks)

        return judge

    # -- what is true --------------------------------------------------------------------------------------------

    def _unjudgeable(self) -> bool:
        return self.clocks_were_set or any(place.losses for place in self.places)

    def in_request(self, process: Process) -> bool:
        return process.name.startswith("server")

    def _holds(self, run: Run) -> bool:
        frozen = run.task.process.frozen_until > self.world.now
        return run.task.process.alive and not frozen and self._held(run.instance_id, run.task.process)

    def _side_by_side(self, run: Run, other: Run) -> bool:
        """Whether both hold leases of one storage."""
        if other.entry is run.entry or self.in_request(other.task.process):
            return False
        return self._holds(other) and self._holds(run) and self._place_of(other) is self._place_of(run)

    def _place_of(self, run: Run) -> Place | None:
        """The place that leased the run to its process; after a lost answer, two places may hold the instance."""
        process = run.task.process
        return next((place for place in self.places if self._leased(place, run.instance_id) is process), None)

    def _leased(self, place: Place, instance_id: str) -> Process | None:
        """The process to which a place has leased an instance."""
        record = record_of(place.truth, instance_id)
        runs = record is not None and record.state is State.RUNNING
        return place.sessions.get(record.session or "") if runs and record is not None else None

    def _held(self, instance_id: str, process: Process) -> bool:
        return any(self._leased(place, instance_id) is process for place in self.places)
