"""The context of a running job: :class:`JobContext`."""

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
    """The destination's permit for one attempt, and what the attempt reports about that destination.

    :param enter: called before the effect; raises :class:`~pijobs.errors.AttemptDeferred`.
    """

    def __init__(self, enter: Callable[[str, Limits], int | None] = lambda destination, limits: None) -> None:
        self.enter = enter
        #: Limits that replace the job's own.
        self.limits: Limits | None = None
        #: Why fewer attempts should run at once.
        self.slowed: str | None = None
        #: What is wrong with the destination, although the attempt found a way around it.
        self.warning: str | None = None
        self.down: DestinationDown | None = None
        #: Whether a run that is cut off after this must count in ``crashes``.
        self.once = False


class JobContext:
    """What a running job knows about itself, and what it can do besides returning.

    :ivar id: id of the instance; the same for all attempts.
    :ivar name: name of the job.
    :ivar attempt: number of this attempt, from 1.
    :ivar deadline: seconds since the epoch on the storage's clock, or None.
    :ivar created: time of the call, in the same unit; the same for all attempts.
    :ivar crashes: how many runs of this instance were cut off; nobody knows how far they got.
    :ivar settings: the validated settings.
    :ivar log: a logger whose lines contain the id and the attempt.
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
        """Seconds until the deadline, on the storage's clock; infinite without a deadline, never below 0."""
        return float("inf") if self.deadline is None else max(0.0, self.deadline - self._now())

    def lease_left(self) -> float | None:
        """Seconds for which the worker can keep the lease of this attempt: the rest of the job's ``timeout``. Infinite
        without a timeout. None if there is no lease, because the job runs in the request."""
        return None if self._lease_until is None else self._lease_until - clock.monotonic()

    def check(self) -> None:
        """Call this right before the effect. It sends no request, so it costs nothing.

        :raises DeadlinePassed: the instance then ends ``expired``.
        :raises LeaseLost: this worker may no longer run the instance (it was frozen, or could not reach the
            storage for longer than a lease). Another worker runs it.
        """
        if self.deadline is not None and self._now() >= self.deadline:
            raise DeadlinePassed
        if not self._holds():
            raise LeaseLost

    #: The name of :meth:`check` in 0.1.
    check_deadline = check

    def note(self, **facts: Any) -> None:
        """Record facts about this attempt, such as the destination's reply, in the instance's history. Operators see
        them redacted. Never pass a secret."""
        self.notes.update(facts)

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Report the progress of this attempt, such as ``ctx.progress(40, 100, "page 40")``. Pages, ``jobs show`` and
        ``GET /jobs/<id>/events`` show the last report. Call it as often as you like: one report a second is kept, and
        the last one (``done == total``). Raises nothing: a report that the storage does not store is skipped.

        :param text: shown redacted; never pass a secret.
        """
        self._progress(done, total, text)

    def hide(self, *texts: str | None) -> None:
        """Hide more texts, such as the password of a destination, from notes, log and reason of this attempt. The
        arguments of the job are always hidden."""
        self._hide(*texts)

    def count(self, key: str, limit: int, per: float) -> float | None:
        """Count one event against ``limit`` events in ``per`` seconds, over all workers.

        :returns: None if it was counted, else the seconds until another event is allowed.
        """
        return self._count(key, limit, per)

    def limit(self, destination: str, limits: Limits) -> int | None:
        """Keep limits that are known only now, such as those of a definition. They apply to all workers and replace the
        job's own limits. Call this before the effect. A job that runs in the request is not limited.

        :param destination: name of the rate counter; attempts with the same name share it.
        :returns: this process's share of the concurrency if all processes get the same, for things that a process
            keeps to itself, such as connections; 0 if there are more processes. None: nothing is shared.
        :raises AttemptDeferred: a limit is reached; the instance stays queued until there is room.
        """
        self._permit.limits = limits
        return self._permit.enter(destination, limits)

    def slow_down(self, reason: str) -> None:
        """Report that the destination wants fewer requests at once. The limit of the group is halved, over all workers,
        and grows back with time.

        :param reason: for people, without secrets.
        """
        self._permit.slowed = reason

    def warn(self, reason: str) -> None:
        """Report that the destination is in trouble, although the job found a way around it. People see it with the
        group, until an attempt succeeds without a warning.

        :param reason: for people, without secrets.
        """
        self._permit.warning = reason

    def only_once(self) -> None:
        """Call this right before an effect that must not happen twice. If this run is cut off after that, it counts in
        :attr:`crashes`, even if its worker was stopped by force."""
        self._permit.once = True

    def measure(self, name: str, value: float = 1, **labels: object) -> None:
        """Add to a counter that ``/metrics`` shows as ``pijobs_<name>_total``, with the job's name as label ``job``.

        Raises nothing: an invalid call is logged.

        :param name: lower case, digits and underscores; at most 60 characters.
        :param value: above 0.
        :param labels: at most three, with few values (a destination, a kind of reply); never a
            user or an address. A process counts 100 combinations, and further ones as ``"other"``.
        """
        self._measure(name, value, labels)
