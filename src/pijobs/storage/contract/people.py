"""What an operator asks: records, numbers, and switches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator

from pijobs.jobs import State
from pijobs.storage.periods import Period
from pijobs.storage.records import Audit, Depths, GroupRecord, Page, Record
from pijobs.storage.sessions import SessionRecord
from pijobs.storage.values import (
    GROUPS,
)


class ForPeople(ABC):
    """What an operator asks: records, numbers, and switches."""

    @abstractmethod
    def get(self, instance_id: str) -> Record:
        """:raises InstanceNotFound: for an id that is not there (any more)."""

    @abstractmethod
    def body(self, instance_id: str) -> bytes | None:
        """The encrypted body, for those who may look at a label; None when it has gone."""

    @abstractmethod
    def page(
        self,
        state: State,
        *,
        name: str | None = None,
        group: str | None = None,
        subject: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        """Records of one state: those that wait or run newest first by enqueue, the ended ones newest first by end.
        Without scanning for any single filter; with several, a page may hold fewer than ``limit`` records while
        its cursor goes on. A cursor that this storage did not make raises ``ValueError``.

        :param subject: HMAC of the subject or the person of an instance."""

    @abstractmethod
    def depths(self) -> Depths:
        """Numbers per job and state."""

    @abstractmethod
    def waiting(self, name: str, *, most: int, timeout: float | None = None) -> tuple[int, int | None]:
        """How many instances of a job wait (``queued``, ``scheduled``), counted up to ``most``; and when the one became
        due that was queued first, None if none is. Quick: an enqueue asks.

        :param timeout: as in :meth:`take_out`."""

    @abstractmethod
    def make_room(self, name: str, *, priority: int, reason: str, timeout: float | None = None) -> str | None:
        """``queued, scheduled -> cancelled`` of one instance of a job: of what waits and has less than this priority,
        that of the lowest priority, and of several the one that was enqueued last. Returns its id, or None. Quick: an
        enqueue waits for it, so it looks at the newest :data:`LOOKED_AT` of each of the two states.

        :param timeout: as in :meth:`take_out`."""

    @abstractmethod
    def oldest_due(self, *, without: Collection[str]) -> int | None:
        """The due time of the longest waiting ``queued`` instance of all groups but these; None if there is none.

        Costs more than :meth:`depths`. Where instances are not indexed by group, the storage looks at the first
        thousand of each job, and gives None if all of them belong to these groups."""

    @abstractmethod
    def sessions(self) -> list[SessionRecord]:
        """The live sessions, oldest first."""

    @abstractmethod
    def cancel(self, instance_id: str, *, reason: str) -> None:
        """``queued, scheduled -> cancelled``. :raises StateConflict: for another state. :raises InstanceNotFound:"""

    @abstractmethod
    def retry(self, instance_id: str) -> None:
        """``dead -> queued`` with attempts and crashes at zero, its place by its old rank.
        It is ``cancelled`` instead when a newer instance with its key waits.
        :raises StateConflict: for another state, or when the body has gone or the deadline has passed.
        :raises InstanceNotFound:"""

    @abstractmethod
    def reseal(self, instance_id: str, *, old: tuple[bytes, bytes], new: tuple[bytes, bytes]) -> bool:
        """Replace envelope and body of an instance that does not run, if they still are the ``old`` ones; else False.
        For ``pijobs keys`` and ``pijobs schema``; nothing else about the instance changes."""

    @abstractmethod
    def remove(self, instance_id: str) -> None:
        """Delete the record of an ended instance. :raises StateConflict: if it waits or runs.
        :raises InstanceNotFound:"""

    @abstractmethod
    def pause(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        """Lease nothing (of this group) until :meth:`resume`. What runs goes on. Who did it last, when and why, is
        told by :attr:`Depths.pause` and :attr:`GroupRecord.pause`."""

    @abstractmethod
    def resume(self, group: str | None = None) -> None:
        """End a :meth:`pause`; wakes the workers."""

    @abstractmethod
    def hurry(self, group: str) -> int:
        """Make due what is ``scheduled`` in a group for its next attempt; what was never attempted keeps its time.
        Returns how many. Wakes the workers. Happens in parts of :data:`HOUSEKEEPING_BATCH` instances."""

    @abstractmethod
    def bypass(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        """Store nothing new (of this group) that its caller can run, until :meth:`end_bypass`: see
        :meth:`enqueue_many`. What waits goes on. Who did it last, when and why, is told by :attr:`Depths.bypasses`."""

    @abstractmethod
    def end_bypass(self, group: str | None = None) -> None:
        """End a :meth:`bypass`."""

    def check(self, *, repair: bool = False) -> Iterator[Audit]:
        """Look at everything that the queue keeps, a part at a time: what can't be read, what no list leads to (so that
        it would never run, expire or go), entries that lead to nothing. Each sign of life does a part of it, and
        mends.

        :param repair: mend it: what can't be read ends ``dead``, with the reason ``"damaged: …"``, and keeps its body;
            all else takes its place again.
        """
        yield Audit(last=True)

    @abstractmethod
    def groups(self, *, after: str = "", limit: int = GROUPS) -> list[GroupRecord]:
        """Known groups, by name: up to ``limit`` of those behind ``after``. Fewer mean that these were the last."""

    @abstractmethod
    def totals(self, period: Period | None = None) -> dict[str, float]:
        """All totals by name, as they were at one moment; of a period nobody knows any more none."""
