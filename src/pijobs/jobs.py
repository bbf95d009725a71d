"""What a plugin author handles: a :class:`Job`, its policies, and the context that a running job is given."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pijobs.base import clock
from pijobs.base.functions import is_generator
from pijobs.base.numbers import MAX_PRIORITY, MIN_PRIORITY, is_int, is_number, is_priority
from pijobs.base.schedules import never_comes
from pijobs.errors import DeadlinePassed, DestinationDown, FailJob, LeaseLost

if TYPE_CHECKING:
    from pijobs.settings import Settings

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


class Permit:
    """The destination's permit for one attempt, and what the attempt tells about that destination.

    :param enter: is asked before the effect; raises :class:`~pijobs.errors.HeldBack`.
    """

    def __init__(self, enter: Callable[[str, Limits], int | None] = lambda destination, limits: None) -> None:
        self.enter = enter
        #: Those that count instead of the job's own.
        self.limits: Limits | None = None
        #: Why the destination wants fewer at once.
        self.slowed: str | None = None
        #: What is wrong with it, although the attempt found a way.
        self.warning: str | None = None
        self.down: DestinationDown | None = None
        #: Whether a run that is cut off from here on must be known to the next one.
        self.once = False


class JobContext:
    """What a running job knows about itself, and what it may do besides returning.

    :ivar id: id of the instance; the same over all attempts.
    :ivar name: name of the job.
    :ivar attempt: number of this attempt, from 1.
    :ivar deadline: seconds since the epoch on the storage's clock, or None.
    :ivar created: likewise, of the call that made the instance; the same over all attempts.
    :ivar crashes: how many runs of this instance were cut off, so that nobody knows how far they came.
    :ivar settings: the validated settings.
    :ivar log: a logger whose lines carry the id and the attempt.
    """

    def __init__(
        self,
        *,
        id: str,
        name: str,
        attempt: int,
        deadline: float | None,
        settings: Settings,
        now: Callable[[], float],
        count: Callable[[str, int, float], float | None],
        log: logging.LoggerAdapter[logging.Logger],
        measure: Callable[[str, float, Mapping[str, object]], None] = lambda *_: None,
        created: float | None = None,
        crashes: int = 0,
        permit: Permit | None = None,
        holds: Callable[[], bool] = lambda: True,
        lease_until: float | None = None,
        hide: Callable[..., None] = lambda *texts: None,
        progress: Callable[[float, float | None, str], None] = lambda *_: None,
    ) -> None:
        self.id = id
        self.name = name
        self.attempt = attempt
        self.deadline = deadline
        self.created = now() if created is None else created
        self.crashes = crashes
        self.settings = settings
        self.log = log
        self.notes: dict[str, Any] = {}
        self._now = now
        self._count = count
        self._measure = measure
        self._permit = permit or Permit()
        self._holds = holds
        self._lease_until = lease_until
        self._hide = hide
        self._progress = progress

    def time_left(self) -> float:
        """Seconds until the deadline, on the storage's clock; infinite without one, never below 0."""
        return float("inf") if self.deadline is None else max(0.0, self.deadline - self._now())

    def lease_left(self) -> float | None:
        """Seconds for which the worker keeps the lease of this attempt at most: the rest of the job's ``timeout``.
        Infinite without a timeout. None where there is no lease, since the job runs in the request."""
        return None if self._lease_until is None else self._lease_until - clock.monotonic()

    def check(self) -> None:
        """Call this right before the effect. Asks nobody, so it costs nothing.

        :raises DeadlinePassed: which ends the instance ``expired``.
        :raises LeaseLost: when this worker may not run the instance any more (it was frozen, or could not reach the
            storage for longer than a lease). Another worker runs it.
        """
        if self.deadline is not None and self._now() >= self.deadline:
            raise DeadlinePassed
        if not self._holds():
            raise LeaseLost

    #: The name of :meth:`check` in 0.1.
    check_deadline = check

    def note(self, **facts: Any) -> None:
        """Keep facts about this attempt (what the destination said) in the instance's history. They are shown to
        operators after redaction; never put a secret there."""
        self.notes.update(facts)

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Tell people how far this attempt is, such as ``ctx.progress(40, 100, "page 40")``. Pages, ``jobs show`` and
        ``GET /jobs/<id>/events`` show the last one. It is kept at most once a second, besides the last of all
        (``done == total``), so call it as often as you like. Raises nothing: what the storage does not take is skipped.

        :param text: shown after redaction; never put a secret there.
        """
        self._progress(done, total, text)

    def hide(self, *texts: str | None) -> None:
        """Keep further texts, such as the password of a destination, out of what is told of this attempt: notes, log
        and reason. The arguments of the job are kept out anyway."""
        self._hide(*texts)

    def count(self, key: str, limit: int, per: float) -> float | None:
        """Count one event against ``limit`` events in ``per`` seconds, over all workers.

        :returns: None when it was counted, else the seconds after which one more will be allowed.
        """
        return self._count(key, limit, per)

    def limit(self, destination: str, limits: Limits) -> int | None:
        """Keep within limits that are known only now, such as those of a definition: over all workers, and instead of
        the job's own. Call this before the effect. A job that runs in the request is not limited.

        :param destination: what the rate is counted by; attempts that name the same one share it.
        :returns: how much of the concurrency falls to this process when each takes the same, for what a process keeps
            to itself, such as connections; 0 where there are more processes. None: nothing is shared.
        :raises HeldBack: when a limit is reached; the instance stays queued until there is room.
        """
        self._permit.limits = limits
        return self._permit.enter(destination, limits)

    def slow_down(self, reason: str) -> None:
        """Tell that the destination wants fewer at once. The limit of the group is halved, over all workers, and grows
        back with time.

        :param reason: for people, without secrets.
        """
        self._permit.slowed = reason

    def warn(self, reason: str) -> None:
        """Tell that the destination is in trouble, though the job found a way around. People see it with the group,
        until an attempt succeeds without.

        :param reason: for people, without secrets.
        """
        self._permit.warning = reason

    def only_once(self) -> None:
        """Call this right before an effect that must not happen twice: a run that is cut off from here on is counted
        in :attr:`crashes`, also where its worker is stopped by force."""
        self._permit.once = True

    def measure(self, name: str, value: float = 1, **labels: object) -> None:
        """Add to a counter that ``/metrics`` shows as ``pijobs_<name>_total``, with the job's name as label ``job``.

        Raises nothing: what can't be counted is logged.

        :param name: lower case, digits and underscores; at most 60 characters.
        :param value: above 0.
        :param labels: at most three, whose values come from a short list (a destination, a kind of reply); never a
            user or an address. A process tells 100 combinations apart, and shows further ones as ``"other"``.
        """
        self._measure(name, value, labels)


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
