"""What one thread (or child process) of a worker holds: leases in line, and ends on their way to the storage.

Short jobs are leased and ended in batches of about :data:`AHEAD_WORK` seconds of work, so that a job of a tenth of a
millisecond does not pay for a round trip of its own. What was not started after :data:`AHEAD_LIMIT` seconds goes back,
since another worker may be idle. Beside a job that is not known to be short the slot holds nothing else: what has
ended would run again if the worker died meanwhile, and what is in line would wait for it.
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

#: Seconds of work to lease at once, at most so many instances (whose script holds Redis for 4 ms where each has a group
#: of its own), and seconds until what has not begun goes back: ten batches, since on a busy machine a thread waits for
#: its turn as long as for several of them, and half of what it leased would go back.
AHEAD_WORK, AHEAD_MOST, AHEAD_LIMIT = 0.02, 24, 0.2
#: A job takes as long as it did at the median of so many times.
_RECENT = 5


class StopFlag(Protocol):
    """huey's flag that tells workers to stop."""

    def wait(self, timeout: float | None = None) -> bool: ...

    def is_set(self) -> bool: ...


@dataclass
class Slot:
    """One thread (or child process) that runs jobs."""

    #: Takes only instances of this priority and above.
    floor: int | None = None
    #: Ends that the storage has not taken yet, by session.
    unacknowledged: dict[Session, list[End]] = field(default_factory=dict)
    #: Leases taken ahead, and until when (monotonic seconds) they may be started.
    ahead: deque[tuple[Session, Lease]] = field(default_factory=deque)
    ahead_until: float = 0.0
    #: How long a job takes (seconds, moving mean); unknown work is taken one by one.
    mean: float = AHEAD_WORK
    #: How long each job took of late (seconds).
    recent: dict[str, deque[float]] = field(default_factory=dict)
    outage_wait: float = 0.0
    #: Whether its job ran past its timeout, so that another slot takes its place.
    is_stuck: bool = False
    #: When the spool was last looked at before the storage (monotonic seconds).
    looked_round: float = field(default_factory=lambda: clock.monotonic())
    #: Whether the storage, rather than the spool, answered last time.
    storage_answers: bool = False
    #: Where the last turn ended with a wait for work that found none, and when something there is due next.
    found_nothing: tuple[Session, int | None] | None = None

    def want(self) -> int:
        """How many instances to lease: about :data:`AHEAD_WORK` seconds of work, at least one."""
        return max(1, min(AHEAD_MOST, int(AHEAD_WORK / max(self.mean, 1e-6))))

    def took(self, name: str, seconds: float, *, careful: bool = False) -> None:
        """Note the duration of a job. A slow one among quick ones of its name is mostly that of a busy machine; one as
        long as :data:`AHEAD_LIMIT` counts at once.

        :param careful: it must not happen twice. The next are taken one by one: what is in line when the process dies
            counts as begun, although it was not.
        """
        recent = self.recent.setdefault(name, deque(maxlen=_RECENT))
        if careful or seconds >= AHEAD_LIMIT:
            recent.extend([max(seconds, AHEAD_WORK)] * _RECENT)
        recent.append(seconds)
        usual = _median(recent)
        self.mean = usual if usual >= AHEAD_WORK else self.mean * 0.8 + usual * 0.2

    def is_short(self, name: str) -> bool:
        """Whether a job is known to take less than the work that is leased at once."""
        return name in self.recent and _median(self.recent[name]) < AHEAD_WORK

    def take(self, session: Session, leases: Sequence[Lease]) -> None:
        """Put leases in line. If a worker crashed with one of them, only the first stays, and the next are
        taken one by one: see :mod:`pijobs.worker.solitude`."""
        self.ahead_until = clock.monotonic() + AHEAD_LIMIT
        self.ahead.extend((session, lease) for lease in leases)
        if len(leases) > 1 and any(lease.crashes for lease in leases):
            self.mean = AHEAD_WORK
            first = self.ahead.popleft()
            self.give_back()
            self.ahead.append(first)

    def next(self) -> tuple[Session, Lease] | None:
        """The next lease in line that may still be started; those that waited too long go back."""
        if not self.ahead:
            return None
        if clock.monotonic() > self.ahead_until:
            self.give_back()
        return next(self._line(), None)

    def give_back(self) -> None:
        """Give back what is in line, with the next turn, uncounted."""
        for session, lease in self._line():
            self.end(session, End(lease.id, lease.token, State.QUEUED, counted=False))

    def adopt(self, other: Slot) -> None:
        """Hand in what another slot has to hand in, with the next turn."""
        while other.unacknowledged:
            session, ends = other.unacknowledged.popitem()
            self.unacknowledged.setdefault(session, []).extend(ends)

    def late(self) -> list[tuple[Session, Lease]]:
        """Take what waits too long out of the line: for another thread, while a job of this one does not end."""
        return [*self._line()] if clock.monotonic() > self.ahead_until else []

    def _line(self) -> Iterator[tuple[Session, Lease]]:
        """Take one after the other. Two threads may do so at once."""
        with suppress(IndexError):
            while True:
                yield self.ahead.popleft()

    def end(self, session: Session, end: End) -> None:
        """Keep an end for the next turn."""
        self.unacknowledged.setdefault(session, []).append(end)


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def relieve(slots: Iterable[Slot]) -> None:
    """What waits behind a job that was thought to be short, and does not end, goes back. For another thread."""
    late: dict[Session, list[Lease]] = {}
    for slot in slots:
        for session, lease in slot.late():
            late.setdefault(session, []).append(lease)
    for session, leases in late.items():
        session.give_back(leases)
