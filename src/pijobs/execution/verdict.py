"""Decides what the outcome of an attempt means for its instance. Pure: no storage, no clock, no log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from traceback import walk_tb
from types import TracebackType
from typing import Any

import msgspec

from pijobs.base import files
from pijobs.base.known_texts import Known
from pijobs.base.redact import class_name, describe, message_of, redact, text_of
from pijobs.errors import MAX_SECONDS, AttemptDeferred, AttemptEnd, DeadlinePassed, DestinationDown, LeaseLost, RetryJob
from pijobs.jobs import Job, State

#: The least seconds between an attempt that did not count and the next one, so that nothing loops.
LEAST_WAIT = 1.0
#: The longest wait (seconds) for a destination that asks for a short wait again and again.
LONGEST_BRAKE = 30.0
#: Seconds until the next attempt if the verdict on this one failed.
FAULT_WAIT = 5.0
#: How many places of a traceback are kept (the first and the innermost), and how many causes are followed.
MOST_FRAMES, MOST_CAUSES = 12, 3
#: How many notes of an attempt are kept, and the most characters of their names.
MOST_NOTES, LONGEST_NAME = 50, 80

#: Files whose frames only lead to the job's function.
_LEADING = (files.OURS, os.path.dirname(asyncio.__file__) + os.sep)


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of an attempt, before it is stored."""

    state: State
    counted: bool = True
    #: Seconds until the next attempt.
    wait: float | None = None
    reason: str | None = None
    error: str | None = None
    kwargs: Mapping[str, Any] | None = None


def decide(
    job: Job,
    error: BaseException,
    attempt: int,
    time_left: float,
    known: Iterable[str] | Known = (),
    *,
    held: float = 0.0,
) -> Verdict:
    """Decide what follows a failed attempt.

    :param attempt: number of this attempt, from 1, counting only counted ones.
    :param time_left: seconds to the deadline; no attempt is planned after it.
    :param known: texts that must not appear in the reason.
    :param held: seconds since the first uncounted outcome in a row; the waits grow with it.
    """
    # The class of an AttemptEnd adds nothing to the state.
    said = message_of(error, known) if isinstance(error, AttemptEnd) else ""
    reason, name = said or describe(error, known), class_name(error)
    if isinstance(error, DeadlinePassed):
        return Verdict(State.EXPIRED, reason="the deadline passed before the effect", error=name)
    if isinstance(error, (AttemptDeferred, LeaseLost)):
        return Verdict(State.QUEUED, counted=False, wait=LEAST_WAIT, reason=reason)
    if isinstance(error, DestinationDown) and not (error.counted and attempt >= job.retry.max_attempts):
        wait = _wait_for_destination(job, error, attempt, held)
        verdict = Verdict(State.SCHEDULED, counted=error.counted, wait=wait, reason=reason, error=name)
        return _within(verdict, time_left)
    if job.retry.is_permanent(error) and not isinstance(error, RetryJob):
        return Verdict(State.DEAD, reason=reason, error=name)
    if attempt >= job.retry.max_attempts:
        return Verdict(State.DEAD, reason=f"all {attempt} attempts used up; last: {reason}", error=name)
    wait, kwargs = job.retry.wait_after(attempt), None
    if isinstance(error, RetryJob):
        wait, kwargs = (wait if error.delay is None else max(0.0, error.delay)), error.kwargs
    return _within(
        Verdict(State.SCHEDULED, wait=min(wait, MAX_SECONDS), reason=reason, error=name, kwargs=kwargs), time_left
    )


def _wait_for_destination(job: Job, error: DestinationDown, attempt: int, held: float) -> float:
    # The circuit breaker of a group paces its instances; without a group, this wait does.
    paced = min(held / 4, job.retry.max_delay) if job.group is None else 0.0
    if error.retry_after is not None:
        # Wait as long as the destination says, but longer if it names a short time again and again.
        return max(0.0 if error.counted else LEAST_WAIT, error.retry_after, min(paced, LONGEST_BRAKE))
    return max(LEAST_WAIT, job.retry.wait_after(attempt), paced)


def _within(verdict: Verdict, time_left: float) -> Verdict:
    if verdict.wait is not None and verdict.wait >= time_left:
        reason = f"the next attempt would begin after the deadline; last: {verdict.reason}"
        return Verdict(State.EXPIRED, verdict.counted, reason=reason, error=verdict.error)
    return verdict


def fault(job: Job, error: BaseException, attempt: int) -> Verdict:
    """A failed attempt, used if the verdict itself failed."""
    reason = f"the end of the attempt failed ({type(error).__name__})"
    if attempt >= job.retry.max_attempts:
        reason = f"all {attempt} attempts used up; last: {reason}"
        return Verdict(State.DEAD, reason=redact(reason), error=class_name(error))
    return Verdict(State.SCHEDULED, wait=FAULT_WAIT, reason=redact(reason), error=class_name(error))


# -- what is kept of an attempt --------------------------------------------------------------------------------------


#: Empty values of these types are omitted; 0 and False are not.
_EMPTY = (type(None), dict, list)


def history_line(entry: Mapping[str, Any]) -> str:
    """An entry of an instance's history, without empty values."""
    told = {key: value for key, value in entry.items() if value or not isinstance(value, _EMPTY)}
    return msgspec.json.encode(told).decode()


def shown_notes(notes: Mapping[Any, Any], known: Iterable[str] | Known) -> dict[str, str]:
    """The notes of a job, redacted."""
    # Copy them in one step, because a thread that the job left behind may still write.
    some = [(_shown_name(name), text_of(value)) for name, value in list(dict(notes).items())[:MOST_NOTES]]
    shown: dict[str, str] = {}
    for name, value in some:
        # Skip a note that another one contains, such as the id of a mail in a server's reply.
        shown[name] = value if any(value in told for told in shown.values()) else redact(value, known)
    return shown


def _shown_name(name: object) -> str:
    text = text_of(name)
    # Most names are keyword arguments, which can't contain secrets.
    return (text if text.isascii() and text.isidentifier() else redact(text))[:LONGEST_NAME]


def frames_of(error: BaseException | None) -> list[str]:
    """Where an error was raised, from the outermost call to the innermost, then the same for its causes: file, line and
    function, without values, source lines and messages."""
    places: list[str] = []
    for _ in range(MOST_CAUSES):
        if error is None:
            break
        if places:
            places.append(f"caused by {class_name(error)}")
        every = list(_places(error.__traceback__))
        # The first place is always code of the job's author.
        places += every if len(every) <= MOST_FRAMES else every[:1] + every[1 - MOST_FRAMES :]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return places


def _places(trace: TracebackType | None) -> Iterator[str]:
    """The frames after those of pijobs that lead to the job's function."""
    led_here = True
    for frame, number in walk_tb(trace):
        file = frame.f_code.co_filename
        led_here = led_here and file.startswith(_LEADING)
        if not led_here:
            yield f"{_printable(file)}:{number} in {_printable(frame.f_code.co_name)}"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[-200:]
