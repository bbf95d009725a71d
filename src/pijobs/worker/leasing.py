"""How a worker leases instances and makes tasks of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from huey.api import Task

from pijobs.base import clock, threads
from pijobs.base.clock import to_ms
from pijobs.base.redact import describe
from pijobs.errors import StorageUnavailable
from pijobs.execution.ends import hold
from pijobs.execution.runner import Runner
from pijobs.jobs import State
from pijobs.request.queue import Queue
from pijobs.request.spool import known
from pijobs.storage.values import End, Lease, Step
from pijobs.worker.attempts import HELD_BACK_RETURNS, RETURNS, Attempts
from pijobs.worker.ends import store_one_by_one
from pijobs.worker.huey_hooks import HookedHuey
from pijobs.worker.isolation import LATER, Isolation
from pijobs.worker.load import Load
from pijobs.worker.report import Report
from pijobs.worker.session import Session
from pijobs.worker.slots import Slot, StopFlag
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


class Leasing(HookedHuey):
    """huey with tasks from leases.

    :param workers: number of workers of this installation, as far as this process knows.
    :param sessions: creates the sessions of this process (called once in each process that runs jobs). The engine waits
        for work in the first one that answers, and checks the others (the spool) each turn.
    """

    def __init__(
        self, queue: Queue, runner: Runner, sessions: Callable[[Leasing], Sequence[Session]], pause: Pause, workers: int
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
        self._isolation = Isolation(lambda: sum(len(session.running) for session in self.sessions))
        self._pause = pause
        self.load = Load()
        #: When this worker became quiet (monotonic seconds); None: it is not quiet.
        self._quiet_since: float | None = None
        self._local = threads.local()
        self._start_lock = threads.Lock()

    @property
    def slot(self) -> Slot:
        """The slot of the calling thread."""
        slot: Slot = self._local.slot
        return slot

    @property
    def is_quiet(self) -> bool:
        """Whether somebody asked this worker to lease no more jobs."""
        return any(session.info.quiet for session in self.sessions[:1])

    def _is_stopping(self) -> bool:
        return self.stop_flag is not None and self.stop_flag.is_set()

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
            if not isinstance(call, End) and (reason := self._attempts.deferral(session, lease)) is not None:
                call = End(lease.id, lease.token, State.QUEUED, counted=False, reason=reason)
        except Exception as error:  # an unexpected instance must not be lost between two lines
            call = hold(lease, session.storage.now(), error)
            call = self._attempts.limit_returns(session.storage, lease, call, RETURNS)
        if isinstance(call, End):
            self._isolation.leave(lease.token)
            if call.state is State.QUEUED:
                call = self._attempts.limit_returns(session.storage, lease, call, HELD_BACK_RETURNS)
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
        if self._isolation.belongs_to_another(lease.token):
            reason = "an instance runs that must be alone in its process"
        elif lease.crashes:
            slot.give_back()
            self._hand_in(slot)
            later = session.storage.now() + to_ms(LATER)
            reason = "its worker crashed before; this worker was too busy to run it alone"
            if self._isolation.enter(lease.token):
                return None
        else:
            return None
        return End(lease.id, lease.token, State.QUEUED, counted=False, due=later, reason=reason)

    def _finished(self, lease: Lease, end: End, took: float | None) -> None:
        self._report.finished(lease, end, took)

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
