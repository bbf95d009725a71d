"""What the storage is told of an attempt."""

from __future__ import annotations

from collections.abc import Mapping

from pijobs.base.clock import to_ms
from pijobs.base.known_texts import Known
from pijobs.base.processes import name_of_this
from pijobs.base.redact import class_name, describe, message_of
from pijobs.errors import PijobsError
from pijobs.execution.verdict import Verdict, history_line
from pijobs.jobs import State
from pijobs.storage.values import End, Lease

#: Seconds until an instance that this worker can't run is tried again: at first, and after a long time.
HELD_WAIT, HELD_LONGEST = 2.0, 60.0


def hold(lease: Lease, now: int, error: Exception, known: Known | tuple[()] = ()) -> End:
    """Return an instance that this process can't run, so that any worker tries it a little later. It ends at its
    deadline, or when it is too old."""
    name = class_name(error)
    reason = message_of(error, known) if isinstance(error, PijobsError) else describe(error, known)
    # The history contains the first time only; the record contains the present reason.
    first = lease.held_since is None
    entry = history_line({"at": now, "event": "held", "error": name, "reason": reason}) if first else None
    held = 0.0 if lease.held_since is None else (now - lease.held_since) / 1000
    # Grow slowly: if one of two workers can run it, that should happen before the deadline of an OTP.
    due = now + to_ms(max(HELD_WAIT, min(held / 8, HELD_LONGEST)))
    return End(lease.id, lease.token, State.SCHEDULED, False, due=due, reason=reason, error=name, entry=entry)


def end_of(
    lease: Lease,
    verdict: Verdict,
    started: int,
    now: int,
    *,
    sealed: tuple[bytes, bytes] | None = None,
    notes: Mapping[str, str] | None = None,
    frames: list[str] | None = None,
) -> End:
    due = None if verdict.wait is None else now + to_ms(verdict.wait)
    envelope, body = sealed or (None, None)
    if verdict.state is State.QUEUED:  # deferred: there was no attempt
        return End(lease.id, lease.token, verdict.state, counted=False, reason=verdict.reason, due=due)
    entry = {
        "at": now,
        "event": "attempt",
        "attempt": lease.attempts + 1,
        "worker": name_of_this(),
        "started": started,
        "outcome": verdict.state.value,
        "counted": None if verdict.counted else False,
        "error": verdict.error,
        "reason": verdict.reason,
        "notes": notes,
        "frames": frames,
    }
    return End(
        lease.id, lease.token, verdict.state, counted=verdict.counted, reason=verdict.reason, error=verdict.error,
        due=due, envelope=envelope, body=body, entry=history_line(entry),
    )  # fmt: skip
