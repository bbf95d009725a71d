"""Judges a history at its end, when the faults are over and all has ended."""

from __future__ import annotations

from pijobs.jobs import ENDED, State
from pijobs.storage.records import Record
from pijobs.storage.values import MAX_CRASHES
from pijobs.testing.simulation.entries import GUILTY, Entry, crashes_of, record_of
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.world import Process, World


class LastJudgement:
    """The judges at the end, a part of the books."""

    world: World
    places: list[Place]
    storage: Place
    entries: dict[int, Entry]
    ticks: dict[str, int]
    damaged: set[str]

    def breaks(self, rule: str, text: str) -> None:
        raise NotImplementedError

    def _unjudgeable(self) -> bool:
        raise NotImplementedError

    def _doubts(self, instance_id: str) -> int:
        raise NotImplementedError

    def _by_id(self, instance_id: str) -> Entry:
        raise NotImplementedError

    def found(self, entry: Entry) -> tuple[Place, Record] | None:
        assert entry.id is not None
        known = [(place, record) for place in self.places if (record := record_of(place.truth, entry.id))]
        # After a move, two places may know an instance; the ended record counts.
        known.sort(key=lambda pair: pair[1].state in ENDED, reverse=True)
        return known[0] if known else None

    def unfinished(self) -> bool:
        """Whether an instance waits or runs, or a call has not returned."""
        if any(entry.is_open for entry in self.entries.values()):
            return True
        states = (State.RUNNING, State.QUEUED, State.SCHEDULED)
        return any(place.truth.page(state, limit=1).records for place in self.places for state in states)

    def left_over(self) -> bool:
        """Whether a storage still has a session of a dead process, or a running instance."""
        for place in self.places:
            gone = (place.sessions.get(record.info.id) for record in place.truth.sessions())
            if any(process is None or not process.alive for process in gone):
                return True
            if place.truth.page(State.RUNNING, limit=1).records:
                return True
        return False

    def judge_recovery(self, patience: float, of: Process | None = None) -> None:
        """No instance may still belong to a process (``of``, or any) that died ``patience`` seconds ago."""
        for place in self.places:
            for record in place.truth.page(State.RUNNING, limit=1000).records:
                process = place.sessions.get(record.session or "")
                is_judged = process is not None and of in (None, process)
                if process is not None and is_judged and not process.alive and self.world.now - process.died > patience:
                    self.breaks("recovery", f"{self._by_id(record.id)} is held by {process.name} still, which is gone")

    def judge_all(self) -> None:
        """Judge all calls and places."""
        for entry in self.entries.values():
            if entry.is_open:
                self.breaks("patience", f"{entry} never returned, though its server lives")
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
        if entry.via == "direct" and entry.call.kwargs is not None:
            return
        if entry.via == "direct":
            if (entry.state == "done") != bool(entry.effects) and not self._explained_in_request(entry):
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
        self._judge_record(entry, found[1])

    def _judge_record(self, entry: Entry, record: Record) -> None:
        if record.state not in ENDED:
            self.breaks("starved", f"{entry} is {record.state} still: {record.reason}")
        elif entry.call.kwargs is not None:
            return  # a plugin's job, of unknown effect
        elif record.state is State.DONE and record.id in self.damaged and not self._unjudgeable():
            self.breaks("truth", f"{entry} is done, though its record was damaged")
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

    def _explained_in_request(self, entry: Entry) -> bool:
        """Whether the dead letter may have been retried."""
        return bool(entry.retried or self._doubts(entry.id or ""))

    def _explained(self, entry: Entry, record: Record) -> bool:
        return bool(entry.cut_off or entry.retried or self._unjudgeable() or self._doubts(record.id))

    def _judge_death(self, entry: Entry, record: Record) -> None:
        if entry.call.how in GUILTY or record.id in self.damaged:
            return
        failures = 4 if entry.call.how in ("flaky", "down", "retry") else 9
        if record.attempts >= failures and entry.cut_off:  # failures and crashes, mixed
            return
        if (entry.cut_off >= MAX_CRASHES and any(entry.cuts[MAX_CRASHES - 1 :])) or (
            self._unjudgeable() and entry.cuts
        ):
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
