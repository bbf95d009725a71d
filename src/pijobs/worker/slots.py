"""The state of one thread (or child process) of a worker: leases in its batch, and outcomes to be stored.

Short jobs are leased and ended in batches of about :data:`AHEAD_WORK` seconds of work, so that a job of a tenth of a
millisecond does not need its own round trip. Leases that were not started after :data:`AHEAD_LIMIT` seconds go back,
because another worker may be idle. A slot with a job that is not known to be short has no other leases: ended jobs
would run again if the worker died meanwhile, and leased ones would wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from pijobs.base import clock
from pijobs.jobs import State
from pijobs.storage.values import End, Lease
from pijobs.worker.session import Session

#: Seconds of work to lease at once; the most instances (if each has its own group, the script blocks Redis for 2 ms,
#: and for 3 to 4 ms if a million others wait); seconds until leases that have not begun go back. These are ten batches:
#: on a busy machine, a thread waits several batches for the processor, and half of its leases would go back.
AHEAD_WORK, AHEAD_MOST, AHEAD_LIMIT = 0.02, 16, 0.2
#: The duration of a job is the median of this many runs.
_RECENT = 5


class StopFlag(Protocol):
    """huey's flag that stops workers."""

    def wait(self, timeout: float | None = None) -> bool: ...

    def is_set(self) -> bool: ...


@dataclass
class Slot:
    """One thread (or child process) that runs jobs."""

    #: The lowest priority of the instances that it leases.
    floor: int | None = None
    #: Outcomes that the storage does not have yet, by session.
    unacknowledged: dict[Session, list[End]] = field(default_factory=dict)
    #: Leases of the batch, and until when (monotonic seconds) they may be started.
    ahead: deque[tuple[Session, Lease]] = field(default_factory=deque)
    ahead_until: float = 0.0
    #: Duration of a job (seconds, moving mean); unknown jobs are leased one by one.
    mean: float = AHEAD_WORK
    #: The last durations of each job (seconds).
    recent: dict[str, deque[float]] = field(default_factory=dict)
    outage_wait: float = 0.0
    #: Whether its job ran past its timeout, so that another slot replaces it.
    is_stuck: bool = False
    #: When the spool was last asked before the storage (monotonic seconds).
    looked_round: float = field(default_factory=lambda: clock.monotonic())
    #: Whether the storage answered last time, and not only the spool.
    storage_answers: bool = False
    #: The session in which the last turn waited for work and found none, and when an instance there is due next.
    found_nothing: tuple[Session, int | None] | None = None

    def want(self) -> int:
        """How many instances to lease: about :data:`AHEAD_WORK` seconds of work, at least one."""
        return max(1, min(AHEAD_MOST, int(AHEAD_WORK / max(self.mean, 1e-6))))

    def took(self, name: str, seconds: float, *, careful: bool = False) -> None:
        """Record the duration of a job. A slow run among quick ones usually comes from a busy machine; a run as
        long as :data:`AHEAD_LIMIT` counts at once.

        :param careful: it must not happen twice. The next ones are leased one by one: leases in a batch when the
            process dies count as begun, although they were not.
        """
        recent = self.recent.setdefault(name, deque(maxlen=_RECENT))
        if careful or seconds >= AHEAD_LIMIT:
            recent.extend([max(seconds, AHEAD_WORK)] * _RECENT)
        recent.append(seconds)
        usual = _median(recent)
        self.mean = usual if usual >= AHEAD_WORK else self.mean * 0.8 + usual * 0.2

    def is_short(self, name: str) -> bool:
        """Whether a job is known to take less time than a batch."""
        return name in self.recent and _median(self.recent[name]) < AHEAD_WORK

    def take(self, session: Session, leases: Sequence[Lease]) -> None:
        """Add leases to the batch. If a worker crashed with one of them, only the first one stays, and the next are
        leased one by one; see :mod:`pijobs.worker.isolation`."""
        self.ahead_until = clock.monotonic() + AHEAD_LIMIT
        self.ahead.extend((session, lease) for lease in leases)
        if len(leases) > 1 and any(lease.crashes for lease in leases):
            self.mean = AHEAD_WORK
            first = self.ahead.popleft()
            self.give_back()
            self.ahead.append(first)

    def next(self) -> tuple[Session, Lease] | None:
        """The next lease of the batch that may still start. Those that waited too long go back."""
        if not self.ahead:
            return None
        if clock.monotonic() > self.ahead_until:
            self.give_back()
        return next(self._line(), None)

    def give_back(self) -> None:
        """Return the leases of the batch, with the next turn, uncounted."""
        for session, lease in self._line():
            self.end(session, End(lease.id, lease.token, State.QUEUED, counted=False))

    def adopt(self, other: Slot) -> None:
        """Store the outcomes of another slot, with the next turn."""
        while other.unacknowledged:
            session, ends = other.unacknowledged.popitem()
            self.unacknowledged.setdefault(session, []).extend(ends)

    def late(self) -> list[tuple[Session, Lease]]:
        """Remove leases that wait too long from the batch. Called by another thread while this job does not end."""
        return [*self._line()] if clock.monotonic() > self.ahead_until else []

    def _line(self) -> Iterator[tuple[Session, Lease]]:
        """Remove one after the other. Two threads may do so at once."""
        with suppress(IndexError):
            while True:
                yield self.ahead.popleft()

    def end(self, session: Session, end: End) -> None:
        """Keep an outcome for the next turn."""
        self.unacknowledged.setdefault(session, []).append(end)


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def return_late_leases(slots: Iterable[Slot]) -> None:
    """Return leases that wait for a job that was expected to be short and does not end. Another thread calls it."""
    late: dict[Session, list[Lease]] = {}
    for slot in slots:
        for session, lease in slot.late():
            late.setdefault(session, []).append(lease)
    for session, leases in late.items():
        session.give_back(leases)
