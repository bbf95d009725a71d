"""The :class:`huey.Huey` subclass: huey's workers get their tasks from leases and return outcomes.

A worker's turn is ``dequeue`` (store the outcome of the last job and lease the next one, in one call to the storage),
then ``execute``. An outcome that the storage did not store is kept and tried again. The lease is renewed as long as the
process lives, so no other worker runs the job meanwhile. Instances that can't be decoded are deferred inside
``dequeue``; huey never sees them.

huey's results, revocation, pipelines, locks and retries are not used, because leases replace them.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from huey import signals
from huey.api import Task

from pijobs.base import clock
from pijobs.base.functions import close_loop
from pijobs.errors import StorageUnavailable
from pijobs.jobs import State
from pijobs.observe.status import fingerprint
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, Ended, Lease
from pijobs.worker import leasing, sentry
from pijobs.worker.leasing import Leasing
from pijobs.worker.session import Session
from pijobs.worker.slots import Slot

log = logging.getLogger("pijobs.job")


class Engine(Leasing):
    """huey with tasks from leases."""

    def dequeue(self) -> Task | None:
        """The next task for this slot, or None after at most :data:`~pijobs.worker.leasing.TURN` seconds."""
        slot = self.slot
        while self._left_behind:
            slot.adopt(self._left_behind.pop())
        self.look_at_definitions()
        self._attempts.done.tell()
        if self._isolation.is_wanted():
            self._step_aside(slot)
            return None
        if self.is_quiet:
            self._rest(slot)
            return None
        return self._from_ahead(slot) or self._lease_next(slot)

    def _lease_next(self, slot: Slot) -> Task | None:
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

    def _rest(self, slot: Slot) -> None:
        """Lease nothing, and return the leases of the batch."""
        slot.give_back()
        self._hand_in(slot)
        if self.stop_flag is not None:
            self.stop_flag.wait(leasing.TURN)

    def facts(self) -> dict[str, int]:
        """Facts about the work here, for the sign of life."""
        self.load.sample()
        now = clock.monotonic()
        if not self.is_quiet:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        # A slot that waited for work when the worker became quiet may lease for one more turn.
        settled = self._quiet_since is not None and now - self._quiet_since > 2 * leasing.TURN
        idle = not any(session.running for session in self.sessions)
        return {**self.load.told(), "resting": int(settled and idle)}

    def _step_aside(self, slot: Slot) -> None:
        """Another slot has an instance that must run alone: hold no leases meanwhile."""
        slot.give_back()
        self._hand_in(slot)
        if not any(slot.unacknowledged.values()):
            self._isolation.wait(leasing.TURN)
        else:
            self._wait_out(slot)

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
            outcome, permit, took = self._attempts.make(session, lease, call, partial(self.before_task, task))
        except KeyboardInterrupt:
            self._interrupted(task)
            return
        finally:
            self._tasks_in_flight.discard(task)
            self._isolation.leave(lease.token)
        end = outcome.end
        try:
            end = self._attempts.after(session.storage, lease, call, permit, outcome)
        finally:
            # Whatever fails or interrupts from here on, the outcome of the attempt is kept.
            self.slot.end(session, end)
        if end is not outcome.end:
            outcome = msgspec.structs.replace(outcome, end=end)
        if outcome.held:
            self._report.not_run(lease, end)
        else:
            self.slot.took(lease.name, took, careful=permit.once)
            self._report.ended(session.storage, lease, call, outcome, took)
            self.tell_end(task, outcome)
        if not outcome.held or end.state is State.DEAD:
            self._finished(lease, end, took)

    def _interrupted(self, task: Task) -> None:
        """The worker stops: only in this case an attempt is returned uncounted."""
        session, lease, _ = task.leased
        if not session.interrupted(lease):
            self.slot.end(
                session, End(lease.id, lease.token, State.QUEUED, counted=False, reason="given back at shutdown")
            )
        self._emit(signals.SIGNAL_INTERRUPTED, task)

    def look_at_definitions(self) -> None:
        """Read the definitions now and then. Not with the sign of life, which must not wait for another database."""
        if (found := fingerprint(self.queue.settings)) is not None:
            found.read_if_old()

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

    def stuck(self, storage: Storage, lease: Lease) -> None:
        """A job ran past its timeout. Its slot is blocked until it ends."""
        if (slot := self.busy.get(lease.token)) is not None:
            slot.is_stuck = True
            self._left_behind.append(slot)
        self._isolation.leave(lease.token)
        self._attempts.stuck(storage, lease)

    def report_ended(self, ended: Ended) -> None:
        """Report a state change that the storage made on its own."""
        self._report.storage_ended(ended)
        self.tell_storage_end(ended)
