"""Runs the waiting jobs of a queue in this thread, by the engine of the worker."""

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

#: Seconds of a lease: so long that no test's clock ends one.
_LEASE = 1e9
_MOST = 10_000


@dataclass(frozen=True)
class Drained:
    """One attempt. A retried job has several."""

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
    """Run all due jobs, also those that they enqueue, in a worker's order.

    A periodic job runs for each of its times since :func:`~pijobs.testing.in_memory`, except the minute in which the
    test begins: else the test would depend on the time of day.

    :param clock: if given, advance it until no instance waits for its time or its next attempt.
    :param app_context: the context of each attempt: ``app.app_context``.
    :returns: the attempts, in order.
    :raises RuntimeError: after 10,000 attempts: a job enqueues itself.
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
    """A session that sends heartbeats only when told to."""

    def start(self) -> None:
        self.beat()


class _Engine(Engine):
    """The worker's engine, without waiting."""

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
        """Run the next instance; False if nothing is left to do."""
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
        """Milliseconds: when the next instance becomes due, or a group with waiting instances may run again."""
        storage = self.session.storage
        now, groups = storage.now(), storage.groups()
        blocks = [group.blocked_until for group in groups if group.waiting and (group.blocked_until or 0) > now]
        return min(filter(None, (*blocks, self._next_due)), default=None)

    def _wait(self, session: Session, slot: Slot, next_due: int | None) -> None:
        self._next_due = next_due

    def _wait_out(self, slot: Slot) -> None:
        """Do not wait for an absent storage: the test brings it back."""

    def _finished(self, lease: Lease, end: End, took: float | None) -> None:
        super()._finished(lease, end, took)
        self.attempts.append(Drained(lease.id, lease.name, end.state, end.reason, end.error))
