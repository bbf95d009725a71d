"""The :class:`huey.Huey` subclass: huey's workers get their tasks from leases and return outcomes.

A worker's turn is ``dequeue`` (store the outcome of the last job and lease the next one, in one call to the storage),
then ``execute``. An outcome that the storage did not store is kept and tried again. The lease is renewed as long as the
process lives, so no other worker runs the job meanwhile. Instances that can't be decoded are deferred inside
``dequeue``; huey never sees them.

huey's results, revocation, pipelines, locks and retries are not used, because leases replace them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from huey import signals
from huey.api import Task
from huey.exceptions import CancelExecution

from pijobs.base import clock, threads
from pijobs.base.clock import to_ms
from pijobs.base.functions import close_loop
from pijobs.base.redact import describe
from pijobs.errors import FailJob, RetryJob, StorageUnavailable
from pijobs.execution.ends import hold
from pijobs.execution.runner import Outcome, Runner
from pijobs.jobs import State
from pijobs.observe.status import fingerprint
from pijobs.request.queue import Queue
from pijobs.request.spool import known
from pijobs.request.tasks import JobHuey
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, Ended, Lease, Step
from pijobs.worker import sentry
from pijobs.worker.attempts import HELD_BACK_RETURNS, RETURNS, Attempts
from pijobs.worker.ends import store_one_by_one
from pijobs.worker.load import Load
from pijobs.worker.report import Report, undisturbed
from pijobs.worker.session import Session
from pijobs.worker.slots import Slot, StopFlag
from pijobs.worker.solitude import LATER, Solitude
from pijobs.worker.surroundings import Surroundings

log = logging.getLogger("pijobs.job")

#: Longest wait for work in one turn (seconds); after it the stop flag is checked.
TURN = 1.0


@dataclass(frozen=True)
class Pause:
    """The waits while the storage is away: huey's ``-d``, ``-b`` and ``-m`` (at most a second)."""

    first: float = 0.1
    factor: float = 1.15
    longest: float = 1.0


class Engine(JobHuey):
    """huey with tasks from leases.

    :param workers: number of workers of this installation, as far as this process knows.
    :param sessions: creates the sessions of this process (called once in each process that runs jobs). The engine waits
        for work in the first one that answers, and checks the others (the spool) each turn.
    """

    def __init__(
        self, queue: Queue, runner: Runner, sessions: Callable[[Engine], Sequence[Session]], pause: Pause, workers: int
    ) -> None:
        super().__init__(queue)
        self.runner = runner
        self._attempts = Attempts(queue, runner, workers)
        self.sessions: Sequence[Session] = ()
        self.stop_flag: StopFlag | None = None
        runner.interrupted = self._is_stopping
        self._report = Report(queue)
        self._make_sessions = sessions
        #: Restored after each job; None: not restored.
        self.surroundings: Surroundings | None = None
        #: The slots that run a job, by the token of its lease.
        self.busy: dict[str, Slot] = {}
        #: Slots whose threads may never return to store their outcomes; another slot does it.
        self._left_behind: list[Slot] = []
        self._solitude = Solitude(lambda: sum(len(session.running) for session in self.sessions))
        self._pause = pause
        self.load = Load()
        #: When this worker became quiet (monotonic seconds); None: it is not quiet.
        self._quiet_since: float | None = None
        self._local = threads.local()
        self._start_lock = threads.Lock()

    # -- what huey calls -----------------------------------------------------------------------------------------

    def dequeue(self) -> Task | None:
        """The next task for this slot, or None after at most :data:`TURN` seconds."""
        slot = self.slot
        while self._left_behind:
            slot.adopt(self._left_behind.pop())
        self.look_at_definitions()
        self._attempts.done.tell()
        if self._solitude.is_wanted():
            self._step_aside(slot)
            return None
        if self.is_quiet:
            self._rest(slot)
            return None
        task = self._from_ahead(slot)
        if task is not None:
            return task
        answered: dict[Session, int | None] = {}
        nothing_at, slot.found_nothing = slot.found_nothing, None
        for session, want in self._in_turn(slot):
            if nothing_at is not None and session is nothing_at[0] and not slot.unacknowledged.get(session):
                # It said so a moment ago, and the wait misses no later instance.
                answered[session] = nothing_at[1]
                continue
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
        elif not any(slot.unacknowledged.get(session) for session in answered):
            first = next(session for session in self.sessions if session in answered)
            return self._wait(first, slot, answered[first])
        return None

    @property
    def is_quiet(self) -> bool:
        """Whether somebody asked this worker to lease no more jobs."""
        return any(session.info.quiet for session in self.sessions[:1])

    def _rest(self, slot: Slot) -> None:
        """Lease nothing, and return the leases of the batch."""
        slot.give_back()
        self._hand_in(slot)
        if self.stop_flag is not None:
            self.stop_flag.wait(TURN)

    def facts(self) -> dict[str, int]:
        """Facts about the work here, for the sign of life."""
        self.load.sample()
        now = clock.monotonic()
        if not self.is_quiet:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        # A slot that waited for work when the worker became quiet may lease for one more turn.
        settled = self._quiet_since is not None and now - self._quiet_since > 2 * TURN
        idle = not any(session.running for session in self.sessions)
        return {**self.load.told(), "resting": int(settled and idle)}

    def _step_aside(self, slot: Slot) -> None:
        """Another slot has an instance that must run alone: hold no leases meanwhile."""
        slot.give_back()
        self._hand_in(slot)
        if not any(slot.unacknowledged.values()):
            self._solitude.wait(TURN)
        else:
            self._wait_out(slot)

    def _hand_in(self, slot: Slot) -> None:
        for session in self.sessions:
            with suppress(StorageUnavailable):
                self._step(session, slot, want=0)

    def _in_turn(self, slot: Slot) -> Sequence[tuple[Session, int]]:
        """The sessions, each with the number of instances to lease.

        While the storage answers, the spool's instances move there. Once a second the spool comes first, because some
        of its instances can't move (they were leased before), and must not wait for a storage that is never empty.
        """
        want = slot.want()
        if slot.storage_answers:
            self.queue.move_from_outbox()
        if len(self.sessions) == 1:
            return [(self.sessions[0], want)]
        storage, spool = self.sessions
        # Before the storage has answered, nobody knows whether it has the spool's instances, too.
        if clock.monotonic() - slot.looked_round < TURN or not slot.storage_answers:
            return [(storage, want), (spool, 0 if slot.storage_answers else want)]
        slot.looked_round = clock.monotonic()
        self.queue.move_from_spool()
        return [(spool, want), (storage, want)]

    def execute(self, task: Task, timestamp: Any = None) -> None:
        """Run a task that :meth:`dequeue` returned. The next turn stores the outcome."""
        lease = task.leased[1]
        self.busy[lease.token] = self.slot
        self.load.begin(lease.token)
        try:
            with sentry.isolated():
                self._execute_leased(task)
        finally:
            self.busy.pop(lease.token, None)
            self.load.end(lease.token)
            if self.surroundings is not None:
                self.surroundings.put_back(lease.name)

    def _execute_leased(self, task: Task) -> None:
        session, lease, call = task.leased
        self._report.began(lease)
        self._tasks_in_flight.add(task)
        try:
            outcome, permit, took = self._attempts.make(session, lease, call, partial(self._before, task))
        except KeyboardInterrupt:
            # The worker stops: only in this case an attempt is returned uncounted.
            if not session.interrupted(lease):
                self.slot.end(
                    session, End(lease.id, lease.token, State.QUEUED, counted=False, reason="given back at shutdown")
                )
            self._emit(signals.SIGNAL_INTERRUPTED, task)
            return
        finally:
            self._tasks_in_flight.discard(task)
            self._solitude.leave(lease.token)
        end = outcome.end
        try:
            end = self._attempts.after(session.storage, lease, call, permit, outcome)
        finally:
            # Whatever fails or interrupts from here on, the outcome of the attempt is kept.
            self.slot.end(session, end)
        if end is not outcome.end:
            outcome = replace(outcome, end=end)
        if outcome.held:
            self._report.not_run(lease, end)
        else:
            self.slot.took(lease.name, took, careful=permit.once)
            self._report.ended(session.storage, lease, call, outcome, took)
            self._tell_huey(task, outcome)
        if not outcome.held or end.state is State.DEAD:
            self._finished(lease, end, took)

    def _before(self, task: Task) -> None:
        """Do what huey does before a task runs. :raises FailJob: (or RetryJob) when a hook cancels it."""
        self._emit(signals.SIGNAL_EXECUTING, task)
        if not self._pre_execute:
            return
        try:
            self._run_pre_execute(task)
        except CancelExecution as error:
            self._emit(signals.SIGNAL_CANCELED, task)
            raise (RetryJob if error.retry else FailJob)("a pre_execute hook of huey cancelled it") from None

    @undisturbed
    def _tell_huey(self, task: Task, outcome: Outcome) -> None:
        """Call huey's hooks and receivers when an attempt has ended."""
        self._run_post_execute(task, outcome.value, outcome.error)
        if outcome.end.state is State.DONE:
            self._emit(signals.SIGNAL_COMPLETE, task)
        elif outcome.end.state is State.EXPIRED:
            self._emit(signals.SIGNAL_EXPIRED, task)
        elif not isinstance(outcome.error, RetryJob) or outcome.end.state is State.DEAD:
            self._emit(signals.SIGNAL_ERROR, task, outcome.error)
        if outcome.end.state is State.SCHEDULED:
            self._emit(signals.SIGNAL_RETRYING, task)

    def look_at_definitions(self) -> None:
        """Read the definitions now and then. Not with the sign of life, which must not wait for another database."""
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

    def enter(self, floor: int | None) -> Slot:
        """Each thread or child process calls it before its first turn. The first call opens the sessions."""
        slot = self._local.slot = Slot(floor)
        with self._start_lock:
            if not self.sessions:
                self.sessions = self._make_sessions(self)
                for session in self.sessions:
                    session.start()
        return slot

    def leave(self) -> None:
        """Each thread or child process calls it after its last turn. It stores the last outcomes, or leaves them to
        another slot of this process, because the session would renew their leases for ever."""
        self.slot.give_back()
        self._left_behind.append(self.slot)
        for session in self.sessions:
            try:
                self._step(session, self.slot, want=0)
            except StorageUnavailable as error:
                log.error("the outcome of the last job could not be stored, it may run again: %s", error)
        self._attempts.done.tell(last=True)
        with suppress(Exception):  # what a job left in its event loop must not prevent the worker from ending
            close_loop()

    def close(self) -> None:
        """Close the sessions; their leases go back to the queue."""
        for session in self.sessions:
            session.close()

    # -- one turn ------------------------------------------------------------------------------------------------

    def _step(self, session: Session, slot: Slot, want: int, *, wait: float | None = None) -> Step:
        ends = slot.unacknowledged.get(session, [])
        if not ends and not want:
            return Step([], [], None)
        try:
            step = session.step(ends, want=want, floor=slot.floor, wait=wait)
        except StorageUnavailable:
            raise
        except Exception as error:
            if not ends:
                raise
            log.error("the outcomes of %d jobs could not be stored together: %s", len(ends), describe(error))
            store_one_by_one(session, ends)
            step = Step([], [], None)
        slot.unacknowledged.pop(session, None)
        self._attempts.stored(ends, step.lost)
        return step

    def _take(self, session: Session, slot: Slot, leases: Sequence[Lease]) -> None:
        if not leases:
            return
        stored = self._stored(session, slot, leases)
        slot.take(session, [lease for lease in leases if lease.id not in stored])
        for lease in leases:
            if lease.id in stored:
                log.info("job %s %s: left to the storage, which has it, too", lease.name, lease.id)
                slot.end(session, End(lease.id, lease.token, State.QUEUED, counted=False))
        if slot.unacknowledged.get(session):
            # Return these before the first one begins, because that one may kill this process.
            with suppress(StorageUnavailable):
                self._step(session, slot, want=0)
                session.storage.forget(stored)

    def _stored(self, session: Session, slot: Slot, leases: Sequence[Lease]) -> list[str]:
        """Of leases from the spool: the ids that the storage has, too, because an answer was lost, or they moved."""
        storage = self.sessions[0]
        if session is storage or not (slot.storage_answers or storage.reachable):
            return []
        return known([lease.id for lease in leases], storage.storage)

    def _from_ahead(self, slot: Slot) -> Task | None:
        """The next task of the batch. If the worker stops, the batch goes back."""
        if self._is_stopping():
            slot.give_back()
        while (taken := slot.next()) is not None:
            task = self._task(taken[0], slot, taken[1])
            if task is not None:
                if not slot.is_short(taken[1].name):
                    slot.give_back()
                    self._hand_in(slot)
                return task
        return None

    def _task(self, session: Session, slot: Slot, lease: Lease) -> Task | None:
        try:
            call = self.runner.decode(lease, session.storage.now())
            if not isinstance(call, End):
                call = self._attempts.again(session, lease, call) or self._alone(session, slot, lease) or call
            if not isinstance(call, End) and (reason := self._attempts.held_back(session, lease)) is not None:
                call = End(lease.id, lease.token, State.QUEUED, counted=False, reason=reason)
        except Exception as error:  # an unexpected instance must not be lost between two lines
            call = hold(lease, session.storage.now(), error)
            call = self._attempts.braked(session.storage, lease, call, RETURNS)
        if isinstance(call, End):
            self._solitude.leave(lease.token)
            if call.state is State.QUEUED:
                call = self._attempts.braked(session.storage, lease, call, HELD_BACK_RETURNS)
            slot.end(session, call)
            if call.state is not State.QUEUED:
                self._report.not_run(lease, call)
                self._finished(lease, call, None)
            return None
        task = self.task_of(lease.name, call.args, call.kwargs, id=lease.id)
        task.leased = (session, lease, call)
        return task

    def _alone(self, session: Session, slot: Slot, lease: Lease) -> End | None:
        """Make an instance whose worker crashed run alone in this process. If it can't now, return it."""
        later = None
        if self._solitude.belongs_to_another(lease.token):
            reason = "an instance runs that must be alone in its process"
        elif lease.crashes:
            slot.give_back()
            self._hand_in(slot)
            later = session.storage.now() + to_ms(LATER)
            reason = "its worker crashed before; this worker was too busy to run it alone"
            if self._solitude.enter(lease.token):
                return None
        else:
            return None
        return End(lease.id, lease.token, State.QUEUED, counted=False, due=later, reason=reason)

    def _finished(self, lease: Lease, end: End, took: float | None) -> None:
        self._report.finished(lease, end, took)

    def stuck(self, storage: Storage, lease: Lease) -> None:
        """A job ran past its timeout. Its slot is blocked until it ends."""
        if (slot := self.busy.get(lease.token)) is not None:
            slot.is_stuck = True
            self._left_behind.append(slot)
        self._solitude.leave(lease.token)
        self._attempts.stuck(storage, lease)

    def report_ended(self, ended: Ended) -> None:
        """Report a state change that the storage made on its own."""
        self._report.storage_ended(ended)
        self._tell_huey_of(ended)

    @undisturbed
    def _tell_huey_of(self, ended: Ended) -> None:
        if ended.name not in self.queue.registry:
            return
        task = self.task_of(ended.name, id=ended.id)
        if ended.state is State.EXPIRED:
            self._emit(signals.SIGNAL_EXPIRED, task)
        elif ended.state is State.DEAD:
            self._emit(signals.SIGNAL_ERROR, task, FailJob(ended.reason))

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait(self, session: Session, slot: Slot, next_due: int | None) -> Task | None:
        timeout = TURN
        if next_due is not None:
            timeout = min(timeout, max(0.0, (next_due - session.storage.now()) / 1000))
        if self._is_stopping():
            return None
        try:
            step = self._step(session, slot, want=slot.want(), wait=timeout)
        except StorageUnavailable:
            self._wait_out(slot)
            return None
        if not step.leases:
            slot.found_nothing = session, step.next_due
        self._take(session, slot, step.leases)
        return self._from_ahead(slot)

    def _wait_out(self, slot: Slot) -> None:
        """Wait while the storage is away, longer each time."""
        longest = min(self._pause.longest, TURN)
        slot.outage_wait = min(longest, max(self._pause.first, slot.outage_wait * self._pause.factor))
        if self.stop_flag is not None:
            self.stop_flag.wait(slot.outage_wait)
