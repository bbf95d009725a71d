"""Runs one attempt of one instance, and decides how it ends. Never raises but for an interruption of the process."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from pijobs.clock import to_ms
from pijobs.codec import Call, Codec, open_envelope
from pijobs.errors import (
    AttemptEnd,
    DeadlinePassed,
    DecodeError,
    DestinationDown,
    EncodeError,
    HeldBack,
    LeaseLost,
    RetryJob,
    UnknownHere,
    UnknownJob,
)
from pijobs.jobs import Job, JobContext, Permit, State
from pijobs.metrics import Metrics
from pijobs.redact import describe, redact, texts_in
from pijobs.registry import Registry
from pijobs.settings import Settings
from pijobs.storage.contract import End, Lease, Storage

log = logging.getLogger("pijobs.job")

#: Least seconds until a destination that is down is asked again, if it did not say when.
DOWN_WAIT = 1.0
#: Undecodable instances are asked again after this many seconds, and end dead after the grace (a rolling upgrade).
HELD_WAIT = 5.0
HELD_GRACE = 600.0
#: Seconds until an instance whose destination a worker does not know is tried again, by any worker.
UNKNOWN_WAIT = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ends, before it is written down."""

    state: State
    counted: bool = True
    #: Seconds until the next attempt.
    wait: float | None = None
    reason: str | None = None
    error: str | None = None
    kwargs: Mapping[str, Any] | None = None


class Runner:
    """Runs attempts in the context of the host app.

    :param app_context: makes the context that each attempt runs in.
    """

    def __init__(
        self,
        registry: Registry,
        codec: Callable[[], Codec],
        settings: Settings,
        app_context: Callable[[], AbstractContextManager[Any]],
        metrics: Metrics | None = None,
    ) -> None:
        self._registry = registry
        self._codec = codec
        self._settings = settings
        self._app_context = app_context
        self._metrics = metrics or Metrics()
        #: Whether a KeyboardInterrupt comes from outside, and not from the job itself; a worker knows better.
        self.interrupted: Callable[[], bool] = lambda: True

    def decode(self, lease: Lease, now: int) -> Call | End:
        """The call, or how an instance that can't be decoded (yet) is held back."""
        try:
            call = self._codec().decode(lease.envelope, lease.body)
            if call.envelope is None or (call.envelope.id, call.envelope.name) != (lease.id, lease.name):
                raise DecodeError("damaged: envelope and record differ")
            self._registry[lease.name]
            return call
        except (DecodeError, UnknownJob) as error:
            return _hold(lease, now, error)

    def attempt(
        self,
        storage: Storage,
        lease: Lease,
        call: Call,
        permit: Permit | None = None,
        holds: Callable[[], bool] = lambda: True,
    ) -> End:
        """Run the job once and tell how its lease ends.

        :param permit: learns what the job tells of its destination.
        :param holds: whether this worker still holds the lease.
        :raises KeyboardInterrupt: the process is told to stop at once; the lease is still held.
        """
        job, started = self._registry[lease.name], storage.now()
        permit = permit or Permit()
        context = self._context(storage, lease, call, permit, holds)
        verdict = self._run(job, context, call, lease, permit)
        now = storage.now()
        return self._end(lease, call, verdict, context, started, now)

    def direct(
        self, job: Job, instance_id: str, call: Call, now: Callable[[], int], deadline: int | None, group: str
    ) -> None:
        """Run the job in this process, in the context that there is; its exception reaches the caller."""
        context = JobContext(
            id=instance_id, name=job.name, attempt=1, deadline=None if deadline is None else deadline / 1000,
            settings=self._settings, now=lambda: now() / 1000, count=lambda *_: None,
            log=InstanceLogger(instance_id, 1, call, group), measure=partial(self._metrics.measure, job.name),
        )  # fmt: skip
        context.check()
        self._call(job, context, call)

    def _run(
        self,
        job: Job,
        context: JobContext,
        call: Call,
        lease: Lease,
        permit: Permit,
    ) -> Verdict:
        try:
            # The context ends before the verdict: a session that can't be closed is a failed attempt, too.
            with self._app_context():
                context.check()
                self._call(job, context, call)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and self.interrupted():
                raise
            if isinstance(error, DestinationDown):
                permit.down = error
            return decide(job, error, lease.attempts + 1, context.time_left(), _known(call, lease.group))
        return Verdict(State.DONE)

    def _call(self, job: Job, context: JobContext, call: Call) -> None:
        leading = (context,) if self._registry.wants_context(job.name) else ()
        job.function(*leading, *call.args, **call.kwargs)

    def _context(
        self, storage: Storage, lease: Lease, call: Call, permit: Permit, holds: Callable[[], bool]
    ) -> JobContext:
        name, attempt = lease.name, lease.attempts + 1
        # From the envelope, which is authenticated; the record's copy is for the storage.
        envelope = call.envelope or open_envelope(lease.envelope)
        deadline = envelope.deadline

        def count(key: str, limit: int, per: float) -> float | None:
            allowed_at = storage.count(f"{name}:{key}", limit=limit, per=to_ms(per))
            return None if allowed_at is None else max(0.0, (allowed_at - storage.now()) / 1000)

        return JobContext(
            id=lease.id, name=name, attempt=attempt, deadline=None if deadline is None else deadline / 1000,
            settings=self._settings, now=lambda: storage.now() / 1000, count=count,
            log=InstanceLogger(lease.id, attempt, call, lease.group), measure=partial(self._metrics.measure, name),
            created=envelope.created / 1000, crashes=lease.crashes, permit=permit, holds=holds,
            lease_until=time.monotonic() + (self._registry[name].timeout or math.inf),
        )  # fmt: skip

    def _end(self, lease: Lease, call: Call, verdict: Verdict, context: JobContext, started: int, now: int) -> End:
        body = None
        if verdict.state is State.QUEUED:  # held back: no attempt was made
            if verdict.wait is not None:
                return _given_back(lease, now, verdict.wait, verdict.reason or "", verdict.error)
            return End(lease.id, lease.token, verdict.state, counted=False, reason=verdict.reason)
        if verdict.kwargs is not None and verdict.state is State.SCHEDULED:
            try:
                args, kwargs = self._registry.changed(lease.name, call.args, call.kwargs, verdict.kwargs)
                body = self._codec().reencode(lease.envelope, Call(args, kwargs, call.label))
            except EncodeError as error:
                verdict = Verdict(State.DEAD, reason=f"RetryJob: {describe(error)}", error="EncodeError")
        known = _known(call, lease.group) if context.notes else ()
        entry = {
            "at": now,
            "event": "attempt",
            "attempt": lease.attempts + 1,
            "started": started,
            "outcome": verdict.state.value,
            "counted": None if verdict.counted else False,
            "error": verdict.error,
            "reason": verdict.reason,
            "notes": {key: _shown(value, known) for key, value in context.notes.items()},
        }
        return End(
            lease.id, lease.token, verdict.state, counted=verdict.counted, reason=verdict.reason, error=verdict.error,
            due=None if verdict.wait is None else now + to_ms(verdict.wait), body=body,
            entry=_line({key: value for key, value in entry.items() if value not in (None, {})}),
        )  # fmt: skip


def decide(job: Job, error: BaseException, attempt: int, time_left: float, known: Iterable[str] = ()) -> Verdict:
    """What a failed attempt leads to. Pure.

    :param attempt: number of this attempt, from 1, counted ones only.
    :param time_left: seconds to the deadline; no attempt is planned beyond it.
    :param known: texts that must not appear in the reason.
    """
    # The class of how a job ends its attempt says nothing that the state does not.
    said = redact(str(error), known) if isinstance(error, AttemptEnd) else ""
    reason, name = said or describe(error, known), type(error).__name__
    if isinstance(error, DeadlinePassed):
        return Verdict(State.EXPIRED, reason="the deadline passed before the effect", error=name)
    if isinstance(error, UnknownHere):
        return Verdict(State.QUEUED, counted=False, wait=UNKNOWN_WAIT, reason=reason, error=name)
    if isinstance(error, (HeldBack, LeaseLost)):
        return Verdict(State.QUEUED, counted=False, reason=reason)
    if isinstance(error, DestinationDown) and not (error.counted and attempt >= job.retry.max_attempts):
        asked = error.retry_after
        wait = max(DOWN_WAIT, job.retry.wait_after(attempt)) if asked is None else max(0.0, asked)
        verdict = Verdict(State.SCHEDULED, counted=error.counted, wait=wait, reason=reason, error=name)
        return _within(verdict, time_left)
    if job.retry.is_permanent(error) and not isinstance(error, RetryJob):
        return Verdict(State.DEAD, reason=reason, error=name)
    if attempt >= job.retry.max_attempts:
        return Verdict(State.DEAD, reason=f"all {attempt} attempts used up; last: {reason}", error=name)
    wait, kwargs = job.retry.wait_after(attempt), None
    if isinstance(error, RetryJob):
        wait, kwargs = (wait if error.delay is None else max(0.0, error.delay)), error.kwargs
    return _within(Verdict(State.SCHEDULED, wait=wait, reason=reason, error=name, kwargs=kwargs), time_left)


def _within(verdict: Verdict, time_left: float) -> Verdict:
    if verdict.wait is not None and verdict.wait >= time_left:
        reason = f"the next attempt would begin after the deadline; last: {verdict.reason}"
        return Verdict(State.EXPIRED, verdict.counted, reason=reason, error=verdict.error)
    return verdict


def _hold(lease: Lease, now: int, error: Exception) -> End:
    reason, name = str(error), type(error).__name__
    entry = {"at": now, "event": "held", "error": name, "reason": reason}
    if lease.held_since is not None and now - lease.held_since >= to_ms(HELD_GRACE):
        reason = f"undecodable for {HELD_GRACE / 60:.0f} minutes: {reason}"
        return End(lease.id, lease.token, State.DEAD, False, reason=reason, error=name, entry=_line(entry))
    return _given_back(lease, now, HELD_WAIT, reason, name)


def _given_back(lease: Lease, now: int, wait: float, reason: str, error: str | None) -> End:
    """For any worker to try a little later. The history tells the first time only; the record keeps the last reason."""
    entry = {"at": now, "event": "held", "error": error, "reason": reason}
    first = _line(entry) if lease.held_since is None else None
    due = now + to_ms(wait)
    return End(lease.id, lease.token, State.QUEUED, False, due=due, reason=reason, error=error, entry=first)


def _line(entry: Mapping[str, Any]) -> str:
    """An entry of an instance's history."""
    return msgspec.json.encode(entry).decode()


def _known(call: Call, group: str) -> set[str]:
    """The texts that nobody may read outside of the body. The name of a group is stored in clear anyway."""
    return {text for text in texts_in([call.args, call.kwargs]) if text not in group}


def _shown(value: object, known: Iterable[str]) -> str:
    try:
        return redact(str(value), known)
    except Exception:  # its own __str__ failed; a note must not end the attempt
        return f"a {type(value).__name__}"


class InstanceLogger(logging.LoggerAdapter):  # type: ignore[type-arg]
    """Puts the instance in front of each line that a job logs, and keeps its arguments out of line and error."""

    def __init__(self, instance_id: str, attempt: int, call: Call, group: str) -> None:
        super().__init__(log, {})
        self._prefix = f"{instance_id} attempt {attempt}"
        self._call, self._group = call, group

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if not self.isEnabledFor(level):
            return
        known = _known(self._call, self._group)
        if error := _error_of(kwargs.pop("exc_info", None)):
            # The same error by another message: what a formatter writes of it is not ours to choose.
            shown = type(type(error).__name__, (Exception,), {})(_shown(error, known))
            kwargs["exc_info"] = (type(shown), shown, error.__traceback__)
        record = logging.LogRecord("", level, "", 0, msg, args or None, None)
        self.logger.log(level, "%s: %s", self._prefix, _shown(_Message(record), known), **kwargs)


class _Message:
    """A line of a log, put together when it is written."""

    def __init__(self, record: logging.LogRecord) -> None:
        self._record = record

    def __str__(self) -> str:
        return self._record.getMessage()


def _error_of(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if len(exc_info) == 3 else None
    return sys.exc_info()[1] if exc_info else None
