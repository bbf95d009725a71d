"""Reports what happens to instances: log, metrics, hooks. Nothing here may disturb an attempt."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from pijobs.base.redact import MAX_LENGTH, class_name
from pijobs.execution.runner import Outcome
from pijobs.jobs import State
from pijobs.logs.records import Shown, shown_error
from pijobs.payload.codec import Call
from pijobs.plugins.hookspecs import InstanceEvent
from pijobs.request.queue import Queue
from pijobs.storage import periods
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, Ended, Lease
from pijobs.worker import sentry

log = logging.getLogger("pijobs.job")

Method = TypeVar("Method", bound=Callable[..., None])


def undisturbed(method: Method) -> Method:
    """A report that fails is logged, and affects nothing else."""

    @functools.wraps(method)
    def report(*args: Any) -> None:
        try:
            method(*args)
        except KeyboardInterrupt:  # the worker must stop
            raise
        except BaseException as error:
            log.error("%s could not be reported (%s)", method.__name__, class_name(error))

    return report  # type: ignore[return-value]


class Report:
    """The reports of one worker process."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    @undisturbed
    def began(self, lease: Lease) -> None:
        """An attempt begins."""
        attempt, waited = lease.attempts + 1, _waited(lease)
        line = "job %s %s: queued -> running, attempt %d (waited %.3f s)"
        if log.isEnabledFor(logging.DEBUG):
            log.debug(line, lease.name, lease.id, attempt, waited, extra=_fields(lease, State.RUNNING))
        if self._queue.plugins.listen("job_started"):
            event = InstanceEvent(
                id=lease.id, name=lease.name, group=lease.group, state=State.RUNNING.value, attempt=attempt,
                waited=waited,
            )  # fmt: skip
            self._queue.plugins.call("job_started", event=event)

    @undisturbed
    def ended(self, storage: Storage, lease: Lease, call: Call, outcome: Outcome, took: float) -> None:
        """An attempt ended.

        :param took: seconds.
        """
        end = outcome.end
        self._count(storage, lease, call, end, took)
        failed = end.state is not State.DONE
        why = f": {end.reason}" if end.reason else ""
        notes = "; ".join(f"{name}: {fact}" for name, fact in outcome.notes.items())
        told = f"{why} [{notes}]" if notes else why
        # The reason appears once, in the line itself.
        shown = shown_error(outcome.error, "") if failed and outcome.error is not None else None
        level = logging.WARNING if failed else logging.INFO
        if log.isEnabledFor(level):
            line = f"job {lease.name} {lease.id}: running -> {end.state.value}, attempt {lease.attempts + 1}"
            line = f"{line} (took {took:.3f} s){told}"
            line = Shown(line) if len(line) <= MAX_LENGTH else line
            log.log(level, line, exc_info=shown, extra=_fields(lease, end.state))
        if end.state is State.DEAD:
            sentry.tell(
                name=lease.name, id=lease.id, attempt=lease.attempts + 1, reason=end.reason or "", error=outcome.error,
                label=call.label,
            )  # fmt: skip

    def _count(self, storage: Storage, lease: Lease, call: Call, end: End, took: float) -> None:
        since_enqueue = None
        if end.state is State.DONE and call.envelope is not None:
            since_enqueue = (storage.now() - call.envelope.created) / 1000
        metrics = self._queue.metrics
        metrics.attempt(
            lease.name, lease.group, end.state.value, waited=_waited(lease), took=took, since_enqueue=since_enqueue
        )
        if end.state is not State.DONE and self._queue.storage is not None:
            # A failure is stored before the next sign of life.
            metrics.flush_soon(functools.partial(periods.add, self._queue.storage))

    @undisturbed
    def not_run(self, lease: Lease, end: End) -> None:
        """An instance ended or was returned without an attempt."""
        first = logging.INFO if end.state is State.QUEUED else logging.WARNING  # deferring is what limits are for
        again = first if lease.held_since is None else logging.DEBUG  # it returns every few seconds
        level = logging.ERROR if end.state is State.DEAD else again
        line = "job %s %s: running -> %s (%s)"
        log.log(level, line, lease.name, lease.id, end.state, end.reason, extra=_fields(lease, end.state))

    @undisturbed
    def finished(self, lease: Lease, end: End, took: float | None) -> None:
        """Call the observers for an outcome.

        :param took: seconds; None: there was no attempt.
        """
        if end.state in (State.DEAD, State.EXPIRED):
            self._queue.metrics.failed(lease.name, lease.group, end.state.value)
        if not self._queue.plugins.listen("job_finished"):
            return
        event = InstanceEvent(
            id=lease.id, name=lease.name, group=lease.group, state=end.state.value, attempt=lease.attempts + 1,
            waited=_waited(lease), took=took, error=end.error, reason=end.reason,
        )  # fmt: skip
        self._queue.plugins.call("job_finished", event=event)

    @undisturbed
    def storage_ended(self, ended: Ended) -> None:
        """The storage changed the state of an instance on its own."""
        fields = {"id": ended.id, "job": ended.name, "state": ended.state.value, "attempt": ended.attempts}
        line = "job %s %s: -> %s (%s)"
        log.warning(line, ended.name, ended.id, ended.state, ended.reason, extra={"instance": fields})
        if ended.state in (State.DEAD, State.EXPIRED):
            self._queue.metrics.failed(ended.name, ended.group, ended.state.value)
        if ended.state is State.DEAD:
            sentry.tell(
                name=ended.name, id=ended.id, attempt=ended.attempts, reason=ended.reason or "", error=None, label=None
            )
        event = InstanceEvent(
            id=ended.id, name=ended.name, group=ended.group, state=ended.state.value, attempt=ended.attempts,
            reason=ended.reason,
        )  # fmt: skip
        self._queue.plugins.call("job_finished", event=event)


def _waited(lease: Lease) -> float:
    return (lease.leased - lease.due) / 1000


def _fields(lease: Lease, state: State) -> dict[str, Any]:
    """Separate fields for the JSON log."""
    return {"instance": {"id": lease.id, "job": lease.name, "state": state.value, "attempt": lease.attempts + 1}}
