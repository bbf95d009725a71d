"""What plugin authors use: :class:`Job` and its policies."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pijobs import moved
from pijobs.base.functions import is_generator
from pijobs.base.numbers import MAX_PRIORITY, MIN_PRIORITY, is_int, is_number, is_priority
from pijobs.base.schedules import never_comes
from pijobs.errors import FailJob

#: An editor that completes :class:`pijobs.JobContext` wrote the import of 0.1.0 so.
__getattr__ = moved.names_of(__name__, "pijobs.context")

#: The longest name that fits, with the due time of a periodic instance, into the 255 characters that databases index.
MAX_NAME_LENGTH = 200
NAME_PATTERN = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")


class State(str, Enum):
    """The state of a job instance."""

    #: Ready for a worker.
    QUEUED = "queued"
    #: A worker holds a lease.
    RUNNING = "running"
    #: Waits for its time or its next attempt.
    SCHEDULED = "scheduled"
    DONE = "done"
    #: Failed for good: a dead letter.
    DEAD = "dead"
    #: The deadline passed before the effect.
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return self.value


#: States that only an admin can change back to a waiting one.
ENDED = frozenset({State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED})
WAITING = frozenset({State.QUEUED, State.SCHEDULED})
#: The order in which to read one state after the other: the way that an instance goes, and once more those to which an
#: attempt may lead it back. So none is missed that goes on meanwhile; it may be read twice.
READING_ORDER = (
    State.SCHEDULED, State.QUEUED, State.RUNNING, State.SCHEDULED, State.QUEUED,
    State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Decides whether and when a failed attempt is followed by another one.

    The wait before attempt ``n + 1`` is ``delay * backoff ** (n - 1)`` seconds, at most ``max_delay``. It is varied by
    ``± jitter`` (a fraction), so that instances that failed together are not tried again together.

    :param max_attempts: the most counted attempts, including the first.
    :param delay: seconds before the second attempt.
    :param permanent: exception types after which the instance is ``dead`` at once.
    :param retry_on: if given, only after these types is there another attempt; all others are permanent.
    """

    max_attempts: int = 5
    delay: float = 2.0
    backoff: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.1
    permanent: tuple[type[BaseException], ...] = ()
    retry_on: tuple[type[BaseException], ...] | None = None

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be {what}, got {getattr(self, name)!r}"
            for name, what, ok in (
                ("max_attempts", "an integer of at least 1", is_int(self.max_attempts) and self.max_attempts >= 1),
                ("delay", "a number of seconds >= 0", is_number(self.delay) and self.delay >= 0),
                ("backoff", "a number >= 1", is_number(self.backoff) and self.backoff >= 1),
                ("max_delay", "a number of seconds >= 0", is_number(self.max_delay) and self.max_delay >= 0),
                ("jitter", "a number from 0 to 1", is_number(self.jitter) and 0 <= self.jitter <= 1),
                ("permanent", "a tuple of exception types", _is_errors(self.permanent)),
                ("retry_on", "a tuple of exception types or None", self.retry_on is None or _is_errors(self.retry_on)),
            )
            if not ok
        ]
        if faults:
            raise ValueError("; ".join(faults))

    def is_permanent(self, error: BaseException) -> bool:
        """Whether another attempt would not help."""
        if isinstance(error, (FailJob, *self.permanent)):
            return True
        return self.retry_on is not None and not isinstance(error, self.retry_on)

    def wait_after(self, attempt: int, *, spread: Callable[[float, float], float] = random.uniform) -> float:
        """Seconds to wait after attempt number ``attempt`` (from 1) failed."""
        try:
            wait = min(self.delay * self.backoff ** (attempt - 1), self.max_delay)
        except OverflowError:
            wait = self.max_delay
        return wait * (1 + spread(-self.jitter, self.jitter)) if self.jitter else wait


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a group (a destination), over all workers.

    :param concurrency: the most instances that run at once; a group starts lower and adapts.
    :param rate: at most ``rate`` starts in any window of ``per`` seconds.
    """

    concurrency: int | None = None
    rate: int | None = None
    per: float = 60.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "rate"):
            value = getattr(self, name)
            if value is not None and not (is_int(value) and value >= 1):
                raise ValueError(f"{name} must be an integer of at least 1 or None, got {value!r}")
        if not (is_number(self.per) and self.per > 0):
            raise ValueError(f"per must be a number of seconds > 0, got {self.per!r}")


@dataclass(frozen=True)
class Job:
    """A named unit of work.

    ``group``, ``label``, ``subject`` and ``person`` are called with the job's arguments, at enqueue.

    :param name: ``[a-z0-9_]+(\\.[a-z0-9_]+)+``, such as ``"sms.send"``.
    :param function: runs the job. If the first parameter is annotated :class:`JobContext`, it gets the context.
    :param expires: seconds from enqueue after which the effect must not happen; None: no deadline.
    :param priority: -1000 to 1000, higher first.
    :param timeout: seconds after which a run counts as stuck, and its instance goes back to the queue.
    :param group: returns the name of the destination, for limits and circuit breakers; None: the job's name, no limits.
    :param keep: seconds to keep the record of a finished instance, instead of ``PI_JOB_QUEUE_KEEP_FINISHED``.
    :param keep_result: seconds to keep the function's result, encrypted, with the record of the instance. ``keep``, if
        given, decides for how long. For small values, up to 64 kB. None: the result is not kept.
    :param label: returns a short masked text for people, stored encrypted.
    :param subject: returns where it is sent, such as an address or a number. Stored only as HMAC, for the search.
    :param person: returns whom it is for, such as a login name. Stored only as HMAC, for the search.
    :param upgrade: ``upgrade(args, kwargs)`` converts arguments that an older release enqueued into ``(args, kwargs)``
        for the present function. It is called if stored arguments do not fit. Without it, such instances wait, with
        the reason, until their deadline or ``PI_JOB_QUEUE_MAX_AGE``.
    :param schedule: ``crontab(…)`` of a periodic job; its function is called without arguments.
    :param missed: what happens to due times that passed while no worker ran: ``"once"`` or ``"skip"``.
    :param timezone: IANA name of the schedule's time zone.
    """

    name: str
    function: Callable[..., Any]
    retry: RetryPolicy = field(default_factory=RetryPolicy, kw_only=True)
    expires: float | None = field(default=None, kw_only=True)
    priority: int = field(default=0, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    group: Callable[..., str] | None = field(default=None, kw_only=True)
    limits: Limits | None = field(default=None, kw_only=True)
    keep: float | None = field(default=None, kw_only=True)
    keep_result: float | None = field(default=None, kw_only=True)
    label: Callable[..., str] | None = field(default=None, kw_only=True)
    subject: Callable[..., str | None] | None = field(default=None, kw_only=True)
    person: Callable[..., str | None] | None = field(default=None, kw_only=True)
    upgrade: Callable[[tuple[Any, ...], dict[str, Any]], tuple[Sequence[Any], Mapping[str, Any]]] | None = field(
        default=None, kw_only=True
    )
    schedule: Callable[..., bool] | None = field(default=None, kw_only=True)
    missed: Literal["once", "skip"] = field(default="once", kw_only=True)
    timezone: str = field(default="UTC", kw_only=True)

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise ValueError(f"job {self.name!r}: " + "; ".join(faults))

    def _faults(self) -> Iterator[str]:
        # Authors without a type checker may pass anything.
        name, function, retry = cast("tuple[object, object, object]", (self.name, self.function, self.retry))
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
            yield (
                "name must look like 'sms.send' (lower case, digits, underscores, at least one dot; "
                f"at most {MAX_NAME_LENGTH} characters)"
            )
        if not callable(function):
            yield f"function must be callable, got {type(function).__name__}"
        elif is_generator(function):
            yield "function must do the job when it is called, got a generator function, whose call runs nothing"
        if not isinstance(retry, RetryPolicy):
            yield f"retry must be a RetryPolicy, got {type(retry).__name__}"
        if not is_priority(self.priority):
            yield f"priority must be an integer from {MIN_PRIORITY} to {MAX_PRIORITY}, got {self.priority!r}"
        for option in ("expires", "timeout", "keep", "keep_result"):
            value = getattr(self, option)
            if value is not None and not (is_number(value) and value > 0):
                yield f"{option} must be a number of seconds > 0 or None, got {value!r}"
        for option in ("group", "label", "subject", "person", "upgrade", "schedule"):
            value = getattr(self, option)
            if value is not None and not callable(value):
                yield f"{option} must be a function or None, got {type(value).__name__}"
        if callable(self.schedule) and never_comes(self.schedule):
            yield "schedule must match some time, got days that no calendar has"
        if self.limits is not None and self.group is None:
            yield "limits need a group: pass a function that returns the name of the destination"
        if self.missed not in ("once", "skip"):
            yield f"missed must be 'once' or 'skip', got {self.missed!r}"
        if not _is_zone(self.timezone):
            yield f"timezone must be an IANA name that this host knows, got {self.timezone!r}"


def _is_errors(value: object) -> bool:
    kinds = value if isinstance(value, tuple) else (None,)
    return all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)


def _is_zone(name: object) -> bool:
    try:
        return isinstance(name, str) and (name == "UTC" or ZoneInfo(name) is not None)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def job_options(job: Job) -> Mapping[str, Any]:
    """The options of a job that ``PI_JOB_QUEUE_JOBS`` may override, with the job's own values."""
    return {
        "max_attempts": job.retry.max_attempts,
        "delay": job.retry.delay,
        "backoff": job.retry.backoff,
        "max_delay": job.retry.max_delay,
        "jitter": job.retry.jitter,
        "expires": job.expires,
        "priority": job.priority,
        "timeout": job.timeout,
        "keep": job.keep,
    }
