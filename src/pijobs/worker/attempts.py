"""One attempt in a worker: what it needs from its destination, and what its outcome means for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from pijobs.base import clock
from pijobs.base.clock import SystemClock, to_ms
from pijobs.base.redact import describe
from pijobs.context import Permit
from pijobs.errors import StorageUnavailable
from pijobs.execution.runner import Outcome, Runner
from pijobs.execution.verdict import LEAST_WAIT, history_line
from pijobs.jobs import State
from pijobs.payload.codec import Call
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, Lease
from pijobs.worker.destinations import Destinations
from pijobs.worker.replays import Done, ledger_of
from pijobs.worker.session import Session

log = logging.getLogger("pijobs.job")

#: How many times an instance may return within RETURNS_WITHIN seconds without an attempt that counts: because of
#: limits, and for an unexpected reason.
HELD_BACK_RETURNS, RETURNS, RETURNS_WITHIN = 1000, 20, 24 * 3600.0


class Attempts:
    """Makes the attempts of one worker process.

    :param workers: number of workers of this installation, as far as this process knows.
    """

    def __init__(self, queue: Queue, runner: Runner, workers: int) -> None:
        self._queue = queue
        self._runner = runner
        self._destinations = Destinations(SystemClock(), workers)
        self.done = Done(ledger_of(queue.settings, queue.settings.name))

    def stored(self, ends: Sequence[End], lost: Sequence[str]) -> None:
        """The storage stored these outcomes, except those whose lease was lost."""
        for instance_id in lost:
            log.warning("job %s: the lease was lost, its result does not count", instance_id)
            self._queue.metrics.lease_lost()
        for end in ends:
            if end.state is State.DONE and end.id not in lost:
                self.done.add(end.id)

    def again(self, session: Session, lease: Lease, call: Call) -> End | None:
        """The outcome of an instance that was done before; None: it was not, as far as this process knows."""
        created = call.envelope.created if call.envelope is not None else 0
        if not self.done.has(lease.id, (session.storage.now() - created) / 1000):
            return None
        reason = "it was done before and did not run again: somebody wrote to the storage, or restored a backup"
        log.error("job %s %s: %s", lease.name, lease.id, reason)
        self._queue.metrics.security_event("replayed")
        entry = history_line({"at": session.storage.now(), "event": "replayed", "reason": reason})
        return End(lease.id, lease.token, State.DONE, counted=False, reason=reason, entry=entry)

    def deferral(self, session: Session, lease: Lease) -> str | None:
        """Why the instance must not start now."""
        if not session.holds(lease):
            return "its lease ended before it began"
        try:
            allowed = self._destinations.allowed_at(session.storage, self._queue.registry[lease.name].limits, lease)
        except StorageUnavailable:
            return "the storage did not tell whether the rate of its group allows it"
        return None if allowed is None else f"group {lease.group} is at its rate limit"

    def make(
        self, session: Session, lease: Lease, call: Call, before: Callable[[], None]
    ) -> tuple[Outcome, Permit, float]:
        """Make one attempt.

        :param before: called right before the job's function; an exception ends the attempt.
        :returns: the outcome, the job's report about its destination, and the seconds that it took.
        :raises KeyboardInterrupt: the worker stops.
        """
        permit = self._destinations.permit(session.storage, lease)
        session.begin(lease, self._queue.registry[lease.name].timeout, permit)
        started = clock.monotonic()
        holds = partial(session.holds, lease)
        outcome = self._runner.attempt(session.storage, lease, call, permit, holds, before)
        session.finish(lease)
        return outcome, permit, clock.monotonic() - started

    def after(self, storage: Storage, lease: Lease, call: Call, permit: Permit, outcome: Outcome) -> End:
        """Tell the destination's group about the outcome, which may delay the next attempt."""
        end = outcome.end
        if end.state is State.QUEUED:
            return self.limit_returns(storage, lease, end, HELD_BACK_RETURNS)
        job = self._queue.registry[lease.name]
        if outcome.held or job.group is None:
            return end
        try:
            deadline = call.envelope.deadline if call.envelope is not None else None
            return self._destinations.ended(storage, job, lease, permit, end, deadline=deadline)
        except Exception as error:  # an unexpected record of the group; the attempt has ended anyway
            log.error("group %s: its limit could not be worked out: %s", lease.group, describe(error))
        return end

    def limit_returns(self, storage: Storage, lease: Lease, end: End, most: int) -> End:
        """An uncounted outcome waits. After ``most`` of them without a counted one, the instance is dead."""
        due = max(end.due or 0, storage.now() + to_ms(LEAST_WAIT))
        try:
            # Counted over all workers, and only here, because few instances come this way.
            over = storage.count(f"returned {lease.id} {lease.attempts}", limit=most, per=to_ms(RETURNS_WITHIN))
        except Exception as error:
            log.warning("job %s: its returns could not be counted: %s", lease.id, describe(error))
            over = None
        if over is None:
            return msgspec.structs.replace(end, due=due)
        reason = f"given back {most} times without an attempt that counts; last: {end.reason}"
        return End(lease.id, lease.token, State.DEAD, counted=False, reason=reason, error=end.error, entry=end.entry)

    def stuck(self, storage: Storage, lease: Lease) -> None:
        """A job ran past its timeout: a destination that hangs is down."""
        if self._queue.registry[lease.name].group is not None:
            self._destinations.failed(storage, lease, None, reason="an attempt ran past the timeout of its job")
