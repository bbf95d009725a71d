"""For workers: sessions, leases and outcomes, and the limits of groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from pijobs.storage.periods import Period
from pijobs.storage.records import GroupRecord
from pijobs.storage.sessions import Beat, SessionInfo
from pijobs.storage.values import MAX_TOTALS, End, Ended, LossKind, Step


class ForWorkers(ABC):
    """For workers: sessions, leases and outcomes, and the limits of groups."""

    @abstractmethod
    def open_session(self, info: SessionInfo, *, lease: int) -> None:
        """Register a worker process. Its leases are valid for ``lease`` ms from its last sign of life."""

    @abstractmethod
    def update_session(self, info: SessionInfo) -> None:
        """Change the facts of an open session. A session that counted as dead does not come back by this."""

    @abstractmethod
    def beat(
        self,
        session: str,
        *,
        lease: int,
        abandoned: Sequence[tuple[str, str]] = (),
        unknown: Sequence[tuple[str, str]] = (),
    ) -> Beat:
        """A sign of life: renews all leases of the session by ``lease`` ms. Then does housekeeping, in slices of a few
        milliseconds, as long as there is something to do, but for at most a sixth of the lease and a second
        (:mod:`pijobs.storage.housekeeping`):

        * ``abandoned`` (id, token) of this session, and all leases of sessions without a sign of life, go back:
          ``running -> queued`` with the old rank, ``crashes`` + 1 and a history entry
          ``{"at": now, "event": "crashed", "session": …}``; ``expired`` if the deadline has passed; ``dead`` at
          :data:`MAX_CRASHES`, if it ran alone in its session; about :data:`HOUSEKEEPING_BATCH` in one call.
          The dead sessions themselves are removed.
        * ``unknown`` (id, token) of this session go back uncounted, because the process does not run them.
        * waiting instances whose deadline has passed become ``expired``; dead letters whose deadline has passed
          lose their body.
        * records that :class:`Retention` no longer keeps are removed, and so are unused groups (nothing waiting or
          running, not paused, not blocked, and no longer to be kept: see :meth:`set_group`).

        An outage does not make a session dead. If nobody reached the storage for longer than a lease, neither with a
        sign of life nor with an enqueue, the first sign of life (or new session) afterwards assumes that the storage
        was away, or that its clock jumped: each session stays valid for one more lease from then on. After a silence of
        more than half a lease, each stays valid longer by the rest of that silence. If the clock was set back, each
        session keeps the rest of its lease, by the new time."""

    @abstractmethod
    def step(self, session: str, ends: Sequence[End], *, want: int, floor: int | None = None) -> Step:
        """End leases and take new ones, in one operation.

        First each of ``ends`` is applied, if its lease is still valid (else its id is in :attr:`Step.lost`). Then due
        instances are promoted (up to 20, the highest priorities first), and up to ``want`` instances with
        ``priority >= floor`` are leased to the session, highest priority first, oldest first within a priority (a
        recovered or retried instance keeps its old place). An instance whose deadline has passed is not leased but ends
        ``expired``. Nothing is leased to a session that is unknown or past its lease, while the queue or the group is
        paused, or while the group is blocked or has ``running >= limit``. With ``want=0`` only the ends are applied.

        An instance that ends ``done``, ``expired`` or ``cancelled`` loses its body. ``dead`` keeps it (see
        :meth:`beat`), and ``done`` has the body of its end, if there is one: the result."""

    @abstractmethod
    def note_progress(self, instance_id: str, token: str, line: str) -> bool:
        """Append a line that begins with :data:`PROGRESS` to the history of a running instance. It replaces the last
        line if that begins so, too. False if the lease is not valid any more."""

    @abstractmethod
    def wait(self, timeout: float, *, floor: int | None = None) -> None:
        """Block until :meth:`step` may find an instance, or for ``timeout`` seconds. May return early, but must not
        miss an enqueue that committed after the caller's last :meth:`step` (a storage that polls may see it 25 ms
        late)."""

    def wait_for_step(self, session: str, *, timeout: float, want: int, floor: int | None = None) -> Step:
        """:meth:`wait`, then :meth:`step` without ends: a storage can do both in one round trip."""
        self.wait(timeout, floor=floor)
        return self.step(session, (), want=want, floor=floor)

    @abstractmethod
    def wake(self) -> None:
        """Make every :meth:`wait` of this process return within 1 s (for shutdown)."""

    @abstractmethod
    def close_session(self, session: str, *, crashed: bool = False) -> list[Ended]:
        """Remove the session and return its instances: ``running -> queued`` with the old rank, not counted; or,
        if ``crashed``, counted as in :meth:`beat`."""

    @abstractmethod
    def note_loss(self, kind: LossKind) -> None:
        """A worker found that the storage was emptied, or restored to an earlier state; see :attr:`Depths.loss`."""

    @abstractmethod
    def group(self, name: str) -> GroupRecord | None:
        """None for an unknown group."""

    @abstractmethod
    def set_group(
        self, name: str, *, version: int, limit: int | None, blocked_until: int | None, policy: str, keep: int = 0
    ) -> bool:
        """Write the decision of the policy, if the group still has ``version`` (0: unknown group); else False. A group
        that may run again wakes the workers, also at ``blocked_until``.

        :param keep: ms for which the group is kept even if it is unused."""

    @abstractmethod
    def count(self, key: str, *, limit: int, per: int) -> int | None:
        """Count one event against ``limit`` events in any window of ``per`` ms, over all processes. None: counted;
        else not counted, and the time when another event will be allowed."""

    @abstractmethod
    def add_totals(
        self,
        added: Mapping[str, float],
        *,
        period: Period | None = None,
        most: int = MAX_TOTALS,
        timeout: float | None = None,
    ) -> None:
        """Add to the queue's totals, over all processes. They only grow, and exist as long as the queue. The total
        :data:`LEFT_OUT` counts names that are not stored.

        :param added: values to add, by name (printable, at most 512 characters); finite and positive.
        :param period: the period of the totals, which are removed after a while; None: permanent totals.
        :param most: a new name is not stored if there are this many.
        :param timeout: as in :meth:`take_out`."""
