"""What a plugin author handles: a :class:`Job`, its policies, and the context that a running job is given."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pijobs.base.functions import is_generator
from pijobs.base.numbers import MAX_PRIORITY, MIN_PRIORITY, is_int, is_number, is_priority
from pijobs.base.schedules import never_comes
from pijobs.errors import FailJob

if TYPE_CHECKING:
    pass

#: What fits with the due time of a periodic instance into 255 characters, which is what databases index.
MAX_NAME_LENGTH = 200
NAME_PATTERN = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")


class State(str, Enum):
    """Where a job instance stands."""

    #: Ready to be taken by a worker.
    QUEUED = "queued"
    #: A worker holds a lease.
    RUNNING = "running"
    #: Waits for its time or its next attempt.
    SCHEDULED = "scheduled"
    DONE = "done"
    #: Failed for good; a dead letter.
    DEAD = "dead"
    #: The deadline passed before the effect.
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return self.value


#: States without an arrow to ``running`` but by an admin's hand.
ENDED = frozenset({State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED})
WAITING = frozenset({State.QUEUED, State.SCHEDULED})


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a failed attempt is followed by another.

    The wait before attempt ``n + 1`` is ``delay * backoff ** (n - 1)`` seconds, at most ``max_delay``, spread by
    ``± jitter`` (a fraction), so that what failed together does not come back together.

    :param max_attempts: counted attempts, the first included.
    :param delay: seconds before the second attempt.
    :param permanent: exception types that end the instance ``dead`` at once.
    :param retry_on: if given, only these types are worth another attempt; all others are permanent.
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
        """Whether another attempt would be of no use."""
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
    """Bounds of a group (its destination), over all workers.

    :param concurrency: at most so many instances at once; the group finds its own way up to it.
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

    ``group``, ``label``, ``subject`` and ``person`` are called with the job's own arguments, at enqueue.

    :param name: ``[a-z0-9_]+(\\.[a-z0-9_]+)+``, such as ``"sms.send"``.
    :param function: runs the job; a first parameter annotated :class:`JobContext` is given the context.
    :param expires: seconds from enqueue after which the effect must not happen any more; None: never.
    :param priority: -1000 to 1000, higher first.
    :param timeout: seconds after which a run is taken for stuck, and its instance goes back to the queue.
    :param group: names the destination that limits and breakers count by; None: the job's name, without bounds.
    :param keep: seconds to keep the record of a finished instance, instead of ``PI_JOB_QUEUE_KEEP_FINISHED``.
    :param keep_result: seconds to keep what the function returns, encrypted, with the record of the instance (``keep``,
        if given, says for how long); for small values, up to 64 kB. None: it is not kept.
    :param label: a short masked text for people, stored encrypted.
    :param subject: what it is sent to, such as an address or a number: stored only as HMAC, to find instances by.
    :param person: whom it is for, such as a login name: stored and found likewise.
    :param upgrade: ``upgrade(args, kwargs)`` turns the arguments of instances that an older release enqueued into
        ``(args, kwargs)`` for the function of today. It is called when stored arguments do not fit. Without it such
        instances wait, with the reason, until their deadline or until they are too old.
    :param schedule: ``crontab(…)`` of a periodic job; its function is called without arguments.
    :param missed: what happens to due times that passed while no worker ran: ``"once"`` or ``"skip"``.
    :param timezone: IANA name that the schedule is read in.
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
        # Authors without a type checker give anything.
        name, function, retry = cast("tuple[object, object, object]", (self.name, self.function, self.retry))
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
            yield (
                "name must look like 'sms.send' (lower case, digits, underscores, at least one dot; "
                f"at most {MAX_NAME_LENGTH} characters)"
            )
        if not callable(function):
            yield f"function must be callable, got {type(function).__name__}"
        elif is_generator(function):
            yield "function must do the job when it is called, got a generator function: a call of it runs nothing"
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
            yield "schedule must come some time, got days that no calendar has"
        if self.limits is not None and self.group is None:
            yield "limits need a group: give a function that names the destination"
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
