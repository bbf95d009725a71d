"""The :class:`huey.Huey` subclass: huey's workers take their tasks from leases and hand back ends.

A worker's turn is ``dequeue`` (end what ran before and lease the next, in one call to the storage), then ``execute``.
An end that the storage did not take is kept and tried again: the lease is renewed as long as the process lives, so
nobody else runs the job meanwhile. Undecodable instances are held back inside ``dequeue``; huey never sees them.

huey's results, revocation, pipelines, locks and retries are not used: a lease needs none of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import huey
import msgspec
from huey import signals
from huey.api import Task

from pijobs.clock import SystemClock, to_ms
from pijobs.codec import Call
from pijobs.errors import StorageUnavailable
from pijobs.jobs import Permit, State
from pijobs.queue import Queue
from pijobs.redact import describe
from pijobs.runner import Outcome, Runner, hold
from pijobs.session import Session
from pijobs.spool import known
from pijobs.status import fingerprint
from pijobs.storage.contract import End, Ended, Lease, Step, Storage
from pijobs.verdict import LEAST_WAIT
from pijobs.worker.destinations import Destinations
from pijobs.worker.report import Report
from pijobs.worker.slots import Slot
from pijobs.worker.solitude import LATER, Solitude

log = logging.getLogger("pijobs.job")

#: Longest wait for work in one turn (seconds); after it a stop flag is looked at.
TURN = 1.0
#: How often an instance may come back within RETURNS_WITHIN seconds without an attempt that counts: because limits held
#: it back, and for a reason that nobody expected.
HELD_BACK_RETURNS, RETURNS, RETURNS_WITHIN = 1000, 20, 24 * 3600.0


class StopFlag(Protocol):
    """huey's flag that tells workers to stop."""

    def wait(self, timeout: float | None = None) -> bool: ...

    def is_set(self) -> bool: ...


class NoStorage:
    """What huey sees of a storage: only these two names are ever asked for."""

    #: ``dequeue`` waits by itself, so huey's worker must not sleep between turns.
    blocking = True

    def close(self) -> None:
        """Called by huey before it forks. Our storages are safe over a fork by themselves."""


@dataclass(frozen=True)
class Pause:
    """How to wait while the storage is away: huey's ``-d``, ``-b`` and ``-m``, the last capped at a second."""

    first: float = 0.1
    factor: float = 1.15
    longest: float = 1.0


class Engine(huey.Huey):  # type: ignore[misc]
    """huey, fed by leases.

    :param workers: number of workers of this installation, as far as this process knows.
    :param sessions: makes the sessions of this process (called once in each process that runs jobs); the first one that
        answers is waited on, the others (the spool) are looked at each turn.
    """

    def __init__(
        self, queue: Queue, runner: Runner, sessions: Callable[[Engine], Sequence[Session]], pause: Pause, workers: int
    ) -> None:
        super().__init__(queue.option("NAME"), results=False, store_none=False)
        self.queue = queue
        self.runner = runner
        self.sessions: Sequence[Session] = ()
        self.stop_flag: StopFlag | None = None
        runner.interrupted = self._is_stopping
        self._destinations = Destinations(SystemClock(), workers)
        self._report = Report(queue)
        self._make_sessions = sessions
        self._solitude = Solitude(lambda: sum(len(session.running) for session in self.sessions))
        self._pause = pause
        self._local = threading.local()
        self._start_lock = threading.Lock()
        self._tasks = {name: self.task(name=name)(print).task_class for name in queue.registry}

    # -- what huey calls -----------------------------------------------------------------------------------------

    def create_storage(self) -> NoStorage:
        return NoStorage()

    def dequeue(self) -> Task | None:
        """The next task for this slot, or None after at most :data:`TURN` seconds."""
        slot = self.slot
        self.look_at_definitions()
        if self._solitude.is_wanted():
            self._step_aside(slot)
            return None
        task = self._from_ahead(slot)
        if task is not None:
            return task
        answered: dict[Session, int | None] = {}
        for session, want in self._in_turn(slot):
            try:
                step = self._step(session, slot, want=want)
            except StorageUnavailable:
                slot.storage_answers &= session is not self.sessions[0]
                continue
            slot.storage_answers |= session is self.sessions[0]
            slot.outage_wait = 0.0
            self._take(session, slot, step.leases)
            task = self._from_ahead(slot)
            if task is not None:
                return task
            answered[session] = step.next_due
        if not answered:
            self._wait_out(slot)
        elif not any(slot.ends.get(session) for session in answered):
            first = next(session for session in self.sessions if session in answered)
            return self._wait(first, slot, answered[first])
        return None

    def _step_aside(self, slot: Slot) -> None:
        """Another slot has something that must run alone: hold nothing meanwhile."""
        slot.give_back()
        self._hand_in(slot)
        if not any(slot.ends.values()):
            self._solitude.wait(TURN)
        else:
            self._wait_out(slot)

    def _hand_in(self, slot: Slot) -> None:
        for session in self.sessions:
            with suppress(StorageUnavailable):
                self._step(session, slot, want=0)

    def _in_turn(self, slot: Slot) -> Sequence[tuple[Session, int]]:
        """The sessions, each with the number of instances to lease.

        While the storage answers, what waits in the spool moves there. Once a second the spool comes first, for what no
        move takes because it was leased before: a storage that is never empty must not keep it waiting.
        """
        want = slot.want()
        if len(self.sessions) == 1:
            return [(self.sessions[0], want)]
        storage, spool = self.sessions
        if time.monotonic() - slot.looked_round < TURN:
            return [(storage, want), (spool, 0 if slot.storage_answers else want)]
        slot.looked_round = time.monotonic()
        if slot.storage_answers:
            self.queue.move_from_spool()
        return [(spool, want), (storage, want)]

    def execute(self, task: Task, timestamp: Any = None) -> None:
        """Run a task that :meth:`dequeue` returned. Its end goes to the storage with the next turn."""
        session, lease, call = task.args
        try:
            self._execute_one(task, session, lease, call)
        finally:
            self._solitude.leave(lease.token)

    def _execute_one(self, task: Task, session: Session, lease: Lease, call: Call) -> None:
        self._tasks_in_flight.add(task)
        try:
            outcome, permit, took = self._attempt(session, lease, call)
        except KeyboardInterrupt:
            # The worker stops: only now an attempt goes back without being counted.
            if not session.interrupted(lease):
                self.slot.end(
                    session, End(lease.id, lease.token, State.QUEUED, counted=False, reason="given back at shutdown")
                )
            self._emit(signals.SIGNAL_INTERRUPTED, task)
            return
        finally:
            self._tasks_in_flight.discard(task)
        end = outcome.end
        try:
            end = self._after(session, lease, call, permit, outcome)
        finally:
            # Whatever fails or interrupts from here on, the end of the attempt is kept for the storage.
            self.slot.end(session, end)
        if outcome.held:
            self._report.not_run(lease, end)
        else:
            self.slot.took(took)
            self._report.ended(session.storage, lease, call, replace(outcome, end=end), took)
        if not outcome.held or end.state is State.DEAD:
            self._finished(lease, end, took)

    def delete(self, key: str) -> bool:
        """huey forgets a revocation after each run; there are none."""
        return False

    def read_schedule(self, timestamp: Any = None) -> list[Task]:
        """Nothing: the storage promotes what is due."""
        return []

    def enqueue(self, task: Task) -> None:
        """:raises NotImplementedError: jobs are enqueued by :class:`pijobs.queue.Queue`."""
        raise NotImplementedError("jobs are enqueued by pijobs.queue.Queue")

    def look_at_definitions(self) -> None:
        """Now and then. Not with the sign of life, which must not wait for another database."""
        if (found := fingerprint(self.queue.settings)) is not None:
            found.read_if_old()

    def _is_stopping(self) -> bool:
        return self.stop_flag is not None and self.stop_flag.is_set()

    # -- slots and sessions --------------------------------------------------------------------------------------

    @property
    def slot(self) -> Slot:
        """The slot of the calling thread."""
        slot: Slot = self._local.slot
        return slot

    def enter(self, floor: int | None) -> None:
        """Called by each thread or child process before its first turn; the first one opens the sessions."""
        self._local.slot = Slot(floor)
        with self._start_lock:
            if not self.sessions:
                self.sessions = self._make_sessions(self)
                for session in self.sessions:
                    session.start()

    def leave(self) -> None:
        """Called by each thread or child process after its last turn: hands in the last ends."""
        self.slot.give_back()
        for session in self.sessions:
            try:
                self._step(session, self.slot, want=0)
            except StorageUnavailable as error:
                log.error("the end of the last job could not be stored, it may run again: %s", error)

    def close(self) -> None:
        """Close the sessions; what they hold goes back to the queue."""
        for session in self.sessions:
            session.close()

    # -- one turn ------------------------------------------------------------------------------------------------

    def _step(self, session: Session, slot: Slot, want: int, *, wait: float | None = None) -> Step:
        ends = slot.ends.get(session, [])
        if not ends and not want:
            return Step([], [], None)
        try:
            step = session.step(ends, want=want, floor=slot.floor, wait=wait)
        except StorageUnavailable:
            raise
        except Exception as error:
            if not ends:
                raise
            log.error("the ends of %d jobs could not be stored together: %s", len(ends), describe(error))
            self._end_one_by_one(session, ends)
            step = Step([], [], None)
        slot.ends.pop(session, None)
        for instance_id in step.lost:
            log.warning("job %s: the lease was lost, its result does not count", instance_id)
            self.queue.metrics.lease_lost()
        return step

    def _end_one_by_one(self, session: Session, ends: Sequence[End]) -> None:
        """An end that the storage can't take keeps neither the others nor the worker: it is stored without what was to
        be told of it, and if that fails, too, it counts as a crash.

        :raises StorageUnavailable:
        """
        for end in ends:
            for way in (end, _bare(end)):
                try:
                    session.step([way], want=0)
                    break
                except StorageUnavailable:
                    raise
                except Exception as error:
                    log.error("job %s: its end could not be stored: %s", end.id, describe(error))
            else:
                session.abandon(end.id, end.token)

    def _take(self, session: Session, slot: Slot, leases: Sequence[Lease]) -> None:
        stored = self._stored(session, slot, leases)
        slot.take(session, [lease for lease in leases if lease.id not in stored])
        for lease in leases:
            if lease.id in stored:
                log.info("job %s %s: left to the storage, which has it, too", lease.name, lease.id)
                slot.end(session, End(lease.id, lease.token, State.QUEUED, counted=False))
        if slot.ends.get(session):
            # What goes back does so before the first one begins, which may take down this process.
            with suppress(StorageUnavailable):
                self._step(session, slot, want=0)
                session.storage.forget(stored)

    def _stored(self, session: Session, slot: Slot, leases: Sequence[Lease]) -> list[str]:
        """Of leases from the spool: ids that the storage has. The answer to their enqueue got lost, or they moved."""
        if session is self.sessions[0] or not slot.storage_answers:
            return []
        return known([lease.id for lease in leases], self.sessions[0].storage)

    def _from_ahead(self, slot: Slot) -> Task | None:
        """The next task of those leased ahead; when the worker stops, they go back."""
        if self._is_stopping():
            slot.give_back()
        while (taken := slot.next()) is not None:
            task = self._task(taken[0], slot, taken[1])
            if task is not None:
                return task
        return None

    def _task(self, session: Session, slot: Slot, lease: Lease) -> Task | None:
        try:
            call = self.runner.decode(lease, session.storage.now())
            if not isinstance(call, End):
                call = self._alone(session, slot, lease) or call
            if not isinstance(call, End) and (reason := self._held_back(session, lease)) is not None:
                call = End(lease.id, lease.token, State.QUEUED, counted=False, reason=reason)
        except Exception as error:  # an instance that no line above expects must not get lost between two lines
            call = hold(lease, session.storage.now(), error)
            call = self._braked(session.storage, lease, call, RETURNS)
        if isinstance(call, End):
            self._solitude.leave(lease.token)
            if call.state is State.QUEUED:
                call = self._braked(session.storage, lease, call, HELD_BACK_RETURNS)
            slot.end(session, call)
            if call.state is not State.QUEUED:
                self._report.not_run(lease, call)
                self._finished(lease, call, None)
            return None
        # Not by the wrapper's s(): that takes options such as "expires" out of the job's own arguments.
        return self._tasks[lease.name](args=(session, lease, call), id=lease.id)

    def _alone(self, session: Session, slot: Slot, lease: Lease) -> End | None:
        """What went down with a worker before runs alone in this process; else it goes back, for another try."""
        later = None
        if self._solitude.belongs_to_another(lease.token):
            reason = "something runs that must be alone in its process"
        elif lease.crashes:
            slot.give_back()
            self._hand_in(slot)
            later = session.storage.now() + to_ms(LATER)
            reason = "it went down with a worker before, and this one had no moment to run it alone"
            if self._solitude.enter(lease.token):
                return None
        else:
            return None
        return End(lease.id, lease.token, State.QUEUED, counted=False, due=later, reason=reason)

    def _held_back(self, session: Session, lease: Lease) -> str | None:
        """Why the instance must not start now."""
        if not session.holds(lease):
            return "its lease ran out before it began"
        try:
            allowed = self._destinations.allowed_at(session.storage, self.queue.registry[lease.name].limits, lease)
        except StorageUnavailable:
            return "the storage did not tell whether the rate of its group allows it"
        return None if allowed is None else f"group {lease.group} is at its rate limit"

    def stuck(self, storage: Storage, lease: Lease) -> None:
        """A job ran past its timeout: a destination that hangs is down."""
        if self.queue.registry[lease.name].group is not None:
            self._destinations.failed(storage, lease, None, reason="an attempt ran past the timeout of its job")

    # -- one attempt ---------------------------------------------------------------------------------------------

    def _attempt(self, session: Session, lease: Lease, call: Call) -> tuple[Outcome, Permit, float]:
        """The outcome, what the job told of its destination, and the seconds that it took."""
        permit = self._destinations.permit(session.storage, lease)
        session.begin(lease, self.queue.registry[lease.name].timeout, permit)
        self._report.began(lease)
        started = time.monotonic()
        outcome = self.runner.attempt(session.storage, lease, call, permit, partial(session.holds, lease))
        return outcome, permit, time.monotonic() - started

    def _after(self, session: Session, lease: Lease, call: Call, permit: Permit, outcome: Outcome) -> End:
        """What the outcome means for the destination, and what that means for the next attempt."""
        end = outcome.end
        if end.state is State.QUEUED:
            return self._braked(session.storage, lease, end, HELD_BACK_RETURNS)
        if outcome.held:
            return end
        job = self.queue.registry[lease.name]
        if job.group is None:
            return end
        try:
            deadline = call.envelope.deadline if call.envelope is not None else None
            return self._destinations.ended(session.storage, job, lease, permit, end, deadline=deadline)
        except Exception as error:  # a record of the group that nobody expected: the attempt has ended all the same
            log.error("group %s: its limit could not be worked out: %s", lease.group, describe(error))
        return end

    def _braked(self, storage: Storage, lease: Lease, end: End, most: int) -> End:
        """An end that does not count waits; after so many without one that counts, the instance is dead."""
        now = storage.now()
        due = max(end.due or 0, now + to_ms(LEAST_WAIT))
        try:
            # Counted over all workers, and only here: this is not the way that instances usually go.
            over = storage.count(f"returned {lease.id} {lease.attempts}", limit=most, per=to_ms(RETURNS_WITHIN))
        except Exception as error:
            log.warning("job %s: its returns could not be counted: %s", lease.id, describe(error))
            over = None
        if over is None:
            return msgspec.structs.replace(end, due=due)
        reason = f"given back {most} times without an attempt that counts; last: {end.reason}"
        return End(lease.id, lease.token, State.DEAD, counted=False, reason=reason, error=end.error, entry=end.entry)

    def _finished(self, lease: Lease, end: End, took: float | None) -> None:
        self._report.finished(lease, end, took)

    def tell_ended(self, ended: Ended) -> None:
        """Log and announce a transition that the storage made on its own."""
        self._report.storage_ended(ended)

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait(self, session: Session, slot: Slot, next_due: int | None) -> Task | None:
        timeout = TURN
        if next_due is not None:
            timeout = min(timeout, max(0.0, (next_due - session.storage.now()) / 1000))
        if self._is_stopping():
            return None
        try:
            self._take(session, slot, self._step(session, slot, want=slot.want(), wait=timeout).leases)
        except StorageUnavailable:
            self._wait_out(slot)
            return None
        return self._from_ahead(slot)

    def _wait_out(self, slot: Slot) -> None:
        """Wait while the storage is away, a little longer each time."""
        longest = min(self._pause.longest, TURN)
        slot.outage_wait = min(longest, max(self._pause.first, slot.outage_wait * self._pause.factor))
        if self.stop_flag is not None:
            self.stop_flag.wait(slot.outage_wait)


def _bare(end: End) -> End:
    """The same end without what was to be told of it."""
    # Without its new arguments another attempt would do the old work again.
    state = State.DEAD if end.body is not None else end.state
    reason = "how it ended could not be stored as it was"
    return End(end.id, end.token, state, counted=end.counted, due=end.due, reason=reason, error="Unstorable")
