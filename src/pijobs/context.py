"""What a running job is given: its :class:`JobContext`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pijobs.base import clock
from pijobs.errors import DeadlinePassed, DestinationDown, LeaseLost
from pijobs.jobs import Limits

if TYPE_CHECKING:
    from pijobs.settings import Settings


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
