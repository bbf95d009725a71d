"""Runs what waits in a queue, here and now, by the engine of the worker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from pijobs.errors import StorageUnavailable
from pijobs.execution.runner import Runner
from pijobs.factory import HueyQueue
from pijobs.jobs import State
from pijobs.payload.keys import KeyRing
from pijobs.request.queue import Queue
from pijobs.storage.values import End, Lease
from pijobs.testing.clock import ManualClock
from pijobs.worker.engine import Engine
from pijobs.worker.leasing import Pause
from pijobs.worker.periodic import Periodic
from pijobs.worker.session import Session, describe_process
from pijobs.worker.slots import Slot

#: Seconds; longer than any test lets pass, so that no clock that it moves ends a lease.
_LEASE = 1e9
_MOST = 10_000


@dataclass(frozen=True)
class Drained:
    """One attempt. A job that is tried again gives one for each attempt."""

    id: str
    name: str
    #: ``done``, ``scheduled`` (for another attempt), ``dead`` or ``expired``.
    state: State
    reason: str | None = None
    #: Class name of the error.
    error: str | None = None


def drain(
    queue: Queue,
    *,
    clock: ManualClock | None = None,
    app_context: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
) -> list[Drained]:
    """Run all that is due, in the order in which a worker would, and what is enqueued by that.

    A periodic job is due when its time has come since :func:`~pijobs.testing.in_memory`; the minute in which a test
    begins does not count, or it would depend on the hour.

    :param clock: if given, let the time pass until what waits for its time or its next attempt is due, until nothing
        waits any more.
    :param app_context: the context that each attempt runs in: ``app.app_context``.
    :returns: each attempt, in their order.
    :raises RuntimeError: when there is no end: a job enqueues itself.
    """
    runner = Runner(queue.registry, queue.codec, queue.settings, app_context, queue.metrics)
    engine = _Engine(queue, runner)
    if isinstance(queue, HueyQueue):
        queue.use_huey(engine)
    engine.enter(None)
    try:
        while engine.turn(clock):
            if len(engine.attempts) > _MOST:
                raise RuntimeError(f"expected the queue to be empty after {_MOST} attempts, found it is not")
    finally:
        engine.leave()
        engine.close()
    return engine.attempts


class _Session(Session):
    """Gives a sign of life when it is told to."""

    def start(self) -> None:
        self.beat()


class _Engine(Engine):
    """The worker's engine, which waits for nothing."""

    def __init__(self, queue: Queue, runner: Runner) -> None:
        super().__init__(queue, runner, lambda engine: [engine.session], Pause(), 1)
        assert queue.storage is not None, "no queue is configured: the jobs have run already"
        info = describe_process(keys=KeyRing.of(queue.settings).ids, jobs=tuple(queue.registry))
        self.session = _Session(
            queue.storage, info, lease=_LEASE, on_ended=self.report_ended, metrics=queue.metrics, flushes=False
        )
        self.attempts: list[Drained] = []
        self._next_due: int | None = None
        since = getattr(queue.storage, "since", None)
        self._periodic = None if since is None else Periodic(queue, since)

    def turn(self, clock: ManualClock | None) -> bool:
        """Run the next instance; False when there is nothing more to do."""
        self._next_due = None
        if self._periodic is not None:
            with contextlib.suppress(StorageUnavailable):
                self._periodic.enqueue_due()
        pending = bool(self.slot.unacknowledged)
        task = self.dequeue()
        if task is not None:
            self.execute(task)
            return True
        if pending or self.slot.unacknowledged:
            return True
        if clock is None or (moment := self._next_moment()) is None:
            return False
        clock.advance(max(0.0, (moment - self.session.storage.now()) / 1000))
        self.session.beat()
        return True

    def _next_moment(self) -> int | None:
        """When something becomes due, or a group in which something waits may run again."""
        storage = self.session.storage
        now, groups = storage.now(), storage.groups()
        blocks = [group.blocked_until for group in groups if group.waiting and (group.blocked_until or 0) > now]
        return min(filter(None, (*blocks, self._next_due)), default=None)

    def _wait(self, session: Session, slot: Slot, next_due: int | None) -> None:
        self._next_due = next_due

    def _wait_out(self, slot: Slot) -> None:
        """The storage is away: it is the test that brings it back."""

    def _finished(self, lease: Lease, end: End, took: float | None) -> None:
        super()._finished(lease, end, took)
        self.attempts.append(Drained(lease.id, lease.name, end.state, end.reason, end.error))
