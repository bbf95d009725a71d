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
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import huey
from huey.api import Task

from pijobs.clock import SystemClock
from pijobs.codec import Call
from pijobs.errors import StorageUnavailable
from pijobs.hookspecs import InstanceEvent
from pijobs.jobs import State
from pijobs.queue import Queue
from pijobs.runner import Runner
from pijobs.session import Session
from pijobs.status import fingerprint
from pijobs.storage.contract import End, Ended, Lease, Step, Storage
from pijobs.worker.destinations import Destinations
from pijobs.worker.slots import Slot

log = logging.getLogger("pijobs.job")

#: Longest wait for work in one turn (seconds); after it a stop flag is looked at.
TURN = 1.0


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
        self._make_sessions = sessions
        self._pause = pause
        self._local = threading.local()
        self._start_lock = threading.Lock()
        self._tasks = {name: self.task(name=name)(partial(self._attempt, name)).task_class for name in queue.registry}

    # -- what huey calls -----------------------------------------------------------------------------------------

    def create_storage(self) -> NoStorage:
        return NoStorage()

    def dequeue(self) -> Task | None:
        """The next task for this slot, or None after at most :data:`TURN` seconds."""
        slot = self.slot
        self.look_at_definitions()
        task = self._from_ahead(slot)
        if task is not None:
            return task
        answered: dict[Session, int | None] = {}
        for session in self._in_turn(slot):
            try:
                step = self._step(session, slot, want=slot.want())
            except StorageUnavailable:
                continue
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

    def _in_turn(self, slot: Slot) -> Sequence[Session]:
        """The storage, then the spool; but a storage that is never empty must not keep the spool waiting."""
        if len(self.sessions) == 1:
            return self.sessions
        if time.monotonic() - slot.looked_round < TURN:
            return self.sessions
        slot.looked_round = time.monotonic()
        return self.sessions[::-1]

    def execute(self, task: Task, timestamp: Any = None) -> None:
        """Run a task that :meth:`dequeue` returned. Its end goes to the storage with the next turn."""
        session, lease, _ = task.args
        end = self._execute(task, timestamp)
        if end is None:  # interrupted (huey caught the KeyboardInterrupt): give it back, not counted
            if session.interrupted(lease):
                return
            end = End(lease.id, lease.token, State.QUEUED, counted=False, reason="given back at shutdown")
        self.slot.end(session, end)

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
        step = session.step(ends, want=want, floor=slot.floor, wait=wait)
        slot.ends.pop(session, None)
        for instance_id in step.lost:
            log.warning("job %s: the lease was lost, its result does not count", instance_id)
            self.queue.metrics.lease_lost()
        return step

    def _take(self, session: Session, slot: Slot, leases: Sequence[Lease]) -> None:
        slot.take(session, leases)
        if slot.ends.get(session):
            # What goes back does so before the first one begins, which may take down this process.
            with suppress(StorageUnavailable):
                self._step(session, slot, want=0)

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
        call = self.runner.decode(lease, session.storage.now())
        if isinstance(call, End):
            again = logging.WARNING if lease.held_since is None else logging.DEBUG  # it comes back every few seconds
            level = logging.ERROR if call.state is State.DEAD else again
            log.log(level, "job %s %s: running -> %s (%s)", lease.name, lease.id, call.state, call.reason)
            slot.end(session, call)
            self._finished(lease, call, None)
            return None
        if (reason := self._held_back(session, lease)) is not None:
            slot.end(session, End(lease.id, lease.token, State.QUEUED, counted=False, reason=reason))
            return None
        # Not by the wrapper's s(): that takes options such as "expires" out of the job's own arguments.
        return self._tasks[lease.name](args=(session, lease, call), id=lease.id)

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

    def _attempt(self, name: str, session: Session, lease: Lease, call: Call) -> End:
        job = self.queue.registry[name]
        permit = self._destinations.permit(session.storage, lease)
        session.begin(lease, job.timeout, permit)
        attempt, waited = lease.attempts + 1, (lease.leased - lease.due) / 1000
        log.info("job %s %s: queued -> running, attempt %d (waited %.3f s)", name, lease.id, attempt, waited)
        if self.queue.plugins.listen("job_started"):
            event = InstanceEvent(
                id=lease.id, name=name, group=lease.group, state=State.RUNNING.value, attempt=attempt, waited=waited
            )
            self.queue.plugins.call("job_started", event=event)
        started = time.monotonic()
        end = self.runner.attempt(session.storage, lease, call, permit, partial(session.holds, lease))
        took = time.monotonic() - started
        if end.state is State.QUEUED:
            log.info("job %s %s: running -> queued: %s", name, lease.id, end.reason)
            return end
        self.slot.took(took)
        self._count(session, lease, call, end, waited, took)
        if end.state is not State.DONE and self.queue.storage is not None:
            # A failure is told before the next sign of life.
            self.queue.metrics.flush_soon(self.queue.storage.add_totals)
        if job.group is not None:
            done = end.state is State.DONE
            self._destinations.ended(session.storage, job, lease, permit, done=done, reason=end.reason)
        level = logging.INFO if end.state is State.DONE else logging.WARNING
        why = f": {end.reason}" if end.reason else ""
        line = "job %s %s: running -> %s, attempt %d (took %.3f s)%s"
        log.log(level, line, name, lease.id, end.state, attempt, took, why)
        self._finished(lease, end, took)
        return end

    def _count(self, session: Session, lease: Lease, call: Call, end: End, waited: float, took: float) -> None:
        since_enqueue = None
        if end.state is State.DONE and call.envelope is not None:
            since_enqueue = (session.storage.now() - call.envelope.created) / 1000
        self.queue.metrics.attempt(
            lease.name, lease.group, end.state.value, waited=waited, took=took, since_enqueue=since_enqueue
        )

    def _finished(self, lease: Lease, end: End, took: float | None) -> None:
        if end.state in (State.DEAD, State.EXPIRED):
            self.queue.metrics.failed(lease.name, lease.group, end.state.value)
        if not self.queue.plugins.listen("job_finished"):
            return
        event = InstanceEvent(
            id=lease.id, name=lease.name, group=lease.group, state=end.state.value, attempt=lease.attempts + 1,
            waited=(lease.leased - lease.due) / 1000, took=took, error=end.error, reason=end.reason,
        )  # fmt: skip
        self.queue.plugins.call("job_finished", event=event)

    def tell_ended(self, ended: Ended) -> None:
        """Log and announce a transition that the storage made on its own."""
        log.warning("job %s %s: -> %s (%s)", ended.name, ended.id, ended.state, ended.reason)
        if ended.state in (State.DEAD, State.EXPIRED):
            self.queue.metrics.failed(ended.name, ended.group, ended.state.value)
        event = InstanceEvent(
            id=ended.id, name=ended.name, group=ended.group, state=ended.state.value, attempt=ended.attempts,
            reason=ended.reason,
        )  # fmt: skip
        self.queue.plugins.call("job_finished", event=event)

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
