"""What a worker asks: sessions, leases and their ends, and the bounds of groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from pijobs.storage.periods import Period
from pijobs.storage.records import GroupRecord
from pijobs.storage.sessions import Beat, SessionInfo
from pijobs.storage.values import (
    MAX_TOTALS,
    End,
    Ended,
    LossKind,
    Step,
)


class ForWorkers(ABC):
    """What a worker asks: sessions, leases and their ends, and the bounds of groups."""

    @abstractmethod
    def open_session(self, info: SessionInfo, *, lease: int) -> None:
        """Announce a worker process; its leases hold ``lease`` ms from its last sign of life."""

    @abstractmethod
    def retell(self, info: SessionInfo) -> None:
        """Change what an open session told. One that is gone (taken for dead) does not come back by this."""

    @abstractmethod
    def beat(
        self,
        session: str,
        *,
        lease: int,
        abandoned: Sequence[tuple[str, str]] = (),
        unknown: Sequence[tuple[str, str]] = (),
    ) -> Beat:
        """A sign of life: renews all leases of the session by ``lease`` ms. Then keeps house, in slices of a few
        milliseconds each, as long as there is something to do, but for a sixth of the lease and a second at most
        (:mod:`pijobs.storage.housekeeping`):

        * ``abandoned`` (id, token) of this session, and all that sessions without a sign of life hold, go back:
          ``running -> queued`` with the old rank, ``crashes`` + 1 and a history entry
          ``{"at": now, "event": "crashed", "session": …}``; ``expired`` if the deadline has passed; ``dead`` at
          :data:`MAX_CRASHES`, if nothing ran beside it in its session; about :data:`HOUSEKEEPING_BATCH` in one call.
          The dead sessions themselves go.
        * ``unknown`` (id, token) of this session go back uncounted: the process does not run them.
        * waiting instances whose deadline has passed become ``expired``; dead letters whose deadline has passed
          lose their body.
        * what :class:`Retention` no longer keeps is removed, and groups that nothing uses (nothing waiting or
          running, not paused, not blocked, and no longer to be kept: see :meth:`set_group`).

        No session is taken for dead by an outage. When nobody reached the storage for longer than a lease, neither by a
        sign of life nor by an enqueue, the first sign of life (or new session) afterwards assumes that the storage was
        away, or that its clock jumped: each session holds for one more lease from then on. After a silence of more than
        half a lease each holds longer by the rest of that silence. When the clock was set back, each session keeps the
        rest of its lease, by the new time."""

    @abstractmethod
    def step(self, session: str, ends: Sequence[End], *, want: int, floor: int | None = None) -> Step:
        """End leases and take new ones, in one operation.

        First each of ``ends`` is carried out, if its lease is still held (else its id is in :attr:`Step.lost`). Then
        what has become due is promoted (up to 20, the highest priorities first), and up to ``want`` instances with
        ``priority >= floor`` are leased
        to the session, highest priority first, oldest first within a priority (a recovered or retried instance
        keeps its old place). An instance whose deadline has passed is not leased but ends ``expired``. Nothing is
        leased to a session that is unknown or past its lease, while the queue or the group is paused, while the
        group is blocked or has ``running >= limit``. With ``want=0`` only the ends are carried out.

        What ends ``done``, ``expired`` or ``cancelled`` loses its body; ``dead`` keeps it (see :meth:`beat`), and
        ``done`` has that of its end, if there is one: the result."""

    @abstractmethod
    def note_progress(self, instance_id: str, token: str, line: str) -> bool:
        """Put a line that begins with :data:`PROGRESS` at the end of the history of a running instance, in the place of
        the last one if that begins so, too. False if the lease is not held any more."""

    @abstractmethod
    def wait(self, timeout: float, *, floor: int | None = None) -> None:
        """Block until :meth:`step` may find something, or for ``timeout`` seconds. May return early, must not miss an
        enqueue that committed after the caller's last :meth:`step` (beyond what the storage polls: at most 25 ms)."""

    def wait_for_step(self, session: str, *, timeout: float, want: int, floor: int | None = None) -> Step:
        """:meth:`wait`, then :meth:`step` without ends: a storage may do both in one round trip."""
        self.wait(timeout, floor=floor)
        return self.step(session, (), want=want, floor=floor)

    @abstractmethod
    def wake(self) -> None:
        """Make every :meth:`wait` of this process return soon (for shutdown); at most 1 s."""

    @abstractmethod
    def close_session(self, session: str, *, crashed: bool = False) -> list[Ended]:
        """Forget the session and give back what it runs: ``running -> queued`` with the old rank, not counted; or,
        if ``crashed``, counted as in :meth:`beat`."""

    @abstractmethod
    def note_loss(self, kind: LossKind) -> None:
        """A worker found that the storage was emptied, or restored to an earlier state; see :attr:`Depths.loss`."""

    @abstractmethod
    def group(self, name: str) -> GroupRecord | None:
        """None for a group that is not known."""

    @abstractmethod
    def set_group(
        self, name: str, *, version: int, limit: int | None, blocked_until: int | None, policy: str, keep: int = 0
    ) -> bool:
        """Write what the policy decided, if the group still has ``version`` (0: not known yet); else False. A group
        that may run again wakes the workers, at ``blocked_until`` without further help.

        :param keep: ms for which the group is remembered even if nothing uses it."""

    @abstractmethod
    def count(self, key: str, *, limit: int, per: int) -> int | None:
        """Count one event against ``limit`` events in any window of ``per`` ms, over all processes. None: counted;
        else not counted, and the time at which one more will be allowed."""

    @abstractmethod
    def add_totals(
        self,
        added: Mapping[str, float],
        *,
        period: Period | None = None,
        most: int = MAX_TOTALS,
        timeout: float | None = None,
    ) -> None:
        """Add to the queue's totals, over all processes. They only grow, and stay as long as the queue does. Names that
        are left out are counted by the total :data:`LEFT_OUT`.

        :param added: what is added, by name (printable, at most 512 characters); finite and positive.
        :param period: whose totals they are, which go after a while; None: those that stay.
        :param most: a name that is not known yet is left out when there are so many.
        :param timeout: as in :meth:`take_out`."""
