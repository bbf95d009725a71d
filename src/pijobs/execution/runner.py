"""Runs one attempt of one instance, and decides its outcome. Raises only if the process is interrupted."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import msgspec

from pijobs.base import clock, functions, traces
from pijobs.base.clock import to_ms
from pijobs.base.processes import no_copies
from pijobs.base.redact import describe, redact
from pijobs.context import JobContext, Permit
from pijobs.errors import (
    AttemptDeferred,
    Damaged,
    DecodeError,
    DestinationDown,
    EncodeError,
    LeaseLost,
    UnknownHere,
    UnknownJob,
)
from pijobs.execution.contexts import Progress, Secrets, context_here
from pijobs.execution.ends import end_of, hold
from pijobs.execution.verdict import Verdict, decide, fault, frames_of, history_line, shown_notes
from pijobs.jobs import Job, State
from pijobs.logs.records import InstanceLogger
from pijobs.metrics.counting import Metrics
from pijobs.payload.codec import Call, Codec, open_envelope
from pijobs.plugins.registry import Registry
from pijobs.settings import Settings
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, Lease

#: The most bytes of a kept result, encrypted.
RESULT_SIZE = 64 * 1024

log = logging.getLogger(__name__)


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of an attempt: what the storage gets, and what only this process knows."""

    end: End
    #: The exception as the job raised it. It may contain secrets.
    error: BaseException | None = None
    #: The function's result.
    value: Any = None
    #: Whether it was returned before its effect, so that there was no attempt.
    held: bool = False
    #: The notes of the job, redacted.
    notes: Mapping[str, str] = msgspec.field(default_factory=dict)


class Runner:
    """Runs attempts in the context of the host app.

    :param app_context: makes the app context of each attempt.
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
        #: Whether a KeyboardInterrupt comes from outside and not from the job itself. A worker replaces this.
        self.interrupted: Callable[[], bool] = lambda: True

    def decode(self, lease: Lease, now: int) -> Call | End:
        """The call; or the outcome of an instance that is damaged, or that this process can't run."""
        try:
            call = self._codec().decode(lease.envelope, lease.body)
            if call.envelope is None or (call.envelope.id, call.envelope.name) != (lease.id, lease.name):
                raise Damaged("damaged: envelope and record differ")
            return self._registry.fitting(lease.name, call)
        except Damaged as error:
            self._metrics.security_event("damaged")
            reason = redact(str(error))
            entry = history_line({"at": now, "event": "damaged", "error": "Damaged", "reason": reason})
            return End(lease.id, lease.token, State.DEAD, False, reason=reason, error="Damaged", entry=entry)
        except UnknownJob:
            told = "restart it, if its plugin was installed or changed since; 'pijobs plugins' lists its jobs then"
            return hold(lease, now, UnknownJob(f"this worker does not know job {lease.name!r}; {told}"))
        except (DecodeError, EncodeError) as error:
            return hold(lease, now, error)

    def attempt(
        self,
        storage: Storage,
        lease: Lease,
        call: Call,
        permit: Permit | None = None,
        holds: Callable[[], bool] = lambda: True,
        before: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Run the job once and return the outcome for its lease.

        :param permit: gets what the job reports about its destination.
        :param holds: whether this worker still holds the lease.
        :param before: called right before the function; an exception ends the attempt.
        :raises KeyboardInterrupt: the process must stop at once; the lease is still held.
        """
        if not traces.on():
            return self._guarded(storage, lease, call, permit, holds, before)
        about: dict[str, Any] = {"messaging__system": "pijobs", "messaging__message__id": lease.id}
        traces.wait(f"wait {lease.name}", call.trace, lease.due, lease.leased, **about)
        about |= {"messaging__operation__type": "process", "pijobs__attempt": lease.attempts + 1}
        with traces.span(f"attempt {lease.name}", "CONSUMER", call.trace, **about) as span:
            outcome = self._guarded(storage, lease, call, permit, holds, before)
            if span is not None:
                span.set_attribute("pijobs.state", outcome.end.state.value)
            if outcome.end.error is not None:
                traces.fail(span, outcome.end.error, outcome.end.reason)
            return outcome

    def _guarded(
        self,
        storage: Storage,
        lease: Lease,
        call: Call,
        permit: Permit | None,
        holds: Callable[[], bool],
        before: Callable[[], None],
    ) -> Outcome:
        job, secrets = self._registry[lease.name], Secrets(call, lease.group)
        started = storage.now()
        try:
            permit = permit or Permit()
            context = self._context(storage, lease, call, permit, holds, secrets)
            return self._attempt(job, storage, lease, call, permit, context, secrets, started, before)
        except BaseException as error:
            # Nothing above should raise. If it does, the attempt failed and counts.
            self._reraise_interruption(error)
            verdict = fault(job, error, lease.attempts + 1)
            return Outcome(end_of(lease, verdict, started, storage.now(), frames=frames_of(error)), error)

    def _attempt(
        self,
        job: Job,
        storage: Storage,
        lease: Lease,
        call: Call,
        permit: Permit,
        context: JobContext,
        secrets: Secrets,
        started: int,
        before: Callable[[], None],
    ) -> Outcome:
        value: Any = None
        failure: BaseException | None = None
        try:
            # The context ends before the verdict, so a session that can't be closed is a failed attempt, too.
            with self._app_context():
                context.check()
                before()
                value = self._call(job, context, call)
        except BaseException as error:
            self._reraise_interruption(error)
            failure = error
        now = storage.now()
        if isinstance(failure, UnknownHere):
            return Outcome(hold(lease, now, failure, secrets.known), failure, held=True)
        if failure is None:
            sealed, verdict = self._result(job, lease, call, value)
        else:
            if isinstance(failure, DestinationDown):
                permit.down = failure
            held = 0.0 if lease.held_since is None else (now - lease.held_since) / 1000
            verdict = decide(job, failure, lease.attempts + 1, context.time_left(), secrets.known, held=held)
            sealed, verdict = self._sealed(lease, call, verdict)
        notes = shown_notes(context.notes, secrets.known) if context.notes else {}
        end = end_of(lease, verdict, started, now, sealed=sealed, notes=notes, frames=frames_of(failure))
        return Outcome(end, failure, value, held=isinstance(failure, (AttemptDeferred, LeaseLost)), notes=notes)

    def direct(self, job: Job, instance_id: str, call: Call, lifetime: float | None, group: str) -> None:
        """Run the job in this process and in the present context. Its exception reaches the caller.

        :param lifetime: seconds from now to its deadline; None: it has none.
        """
        context = context_here(job, instance_id, call, self._settings, self._metrics, lifetime, group)
        context.check()
        with traces.span(f"run {job.name}", messaging__system="pijobs", messaging__message__id=instance_id):
            self._call(job, context, call)

    def _reraise_interruption(self, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt) and self.interrupted():
            raise error

    def _call(self, job: Job, context: JobContext, call: Call) -> Any:
        leading = (context,) if self._registry.wants_context(job.name) else ()
        coroutine = self._registry.is_coroutine(job.name)
        with no_copies():
            return functions.run(job.function, (*leading, *call.args), call.kwargs, coroutine=coroutine)

    def _context(
        self,
        storage: Storage,
        lease: Lease,
        call: Call,
        permit: Permit,
        holds: Callable[[], bool],
        secrets: Secrets,
    ) -> JobContext:
        name, attempt = lease.name, lease.attempts + 1
        # Taken from the envelope, which is authenticated. The record has a copy for the storage.
        envelope = call.envelope or open_envelope(lease.envelope)
        deadline = envelope.deadline

        def count(key: str, limit: int, per: float) -> float | None:
            allowed_at = storage.count(f"{name}:{key}", limit=limit, per=to_ms(per))
            return None if allowed_at is None else max(0.0, (allowed_at - storage.now()) / 1000)

        return JobContext(
            id=lease.id, name=name, attempt=attempt, deadline=None if deadline is None else deadline / 1000,
            settings=self._settings, now=lambda: storage.now() / 1000, count=count,
            log=InstanceLogger(name, lease.id, attempt, secrets), measure=partial(self._metrics.measure, name),
            created=envelope.created / 1000, crashes=lease.crashes, permit=permit, holds=holds,
            lease_until=clock.monotonic() + (self._registry[name].timeout or math.inf), hide=secrets.add,
            progress=Progress(storage, lease, secrets),
        )  # fmt: skip

    def _result(self, job: Job, lease: Lease, call: Call, value: Any) -> tuple[tuple[bytes, bytes] | None, Verdict]:
        """Envelope and body of the result, if it is kept."""
        if job.keep_result is None:
            return None, Verdict(State.DONE)
        try:
            sealed = self._codec().reencode(lease.envelope, Call((value,), {}, call.label))
        except EncodeError as error:
            return None, Verdict(State.DONE, reason=f"its result is not kept: {describe(error)}")
        if len(sealed[1]) > RESULT_SIZE:
            size = f"{len(sealed[1]) / 1000:.0f} kB, more than {RESULT_SIZE / 1000:.0f}"
            return None, Verdict(State.DONE, reason=f"its result is not kept: it has {size}")
        return sealed, Verdict(State.DONE)

    def _sealed(self, lease: Lease, call: Call, verdict: Verdict) -> tuple[tuple[bytes, bytes] | None, Verdict]:
        """Envelope and body for the next attempt with other arguments."""
        if verdict.kwargs is None or verdict.state is not State.SCHEDULED:
            return None, verdict
        try:
            args, kwargs = self._registry.changed(lease.name, call.args, call.kwargs, verdict.kwargs)
            return self._codec().reencode(lease.envelope, Call(args, kwargs, call.label, call.trace)), verdict
        except EncodeError as error:
            return None, Verdict(State.DEAD, reason=f"RetryJob: {describe(error)}", error="EncodeError")
