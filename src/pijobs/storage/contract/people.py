"""For operators: records, counts, and switches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator

from pijobs.jobs import State
from pijobs.storage.periods import Period
from pijobs.storage.records import Audit, Depths, GroupRecord, Page, Record
from pijobs.storage.sessions import SessionRecord
from pijobs.storage.values import GROUPS


class ForPeople(ABC):
    """For operators: records, counts, and switches."""

    @abstractmethod
    def get(self, instance_id: str) -> Record:
        """:raises InstanceNotFound: the id is unknown, or its record was removed."""

    @abstractmethod
    def body(self, instance_id: str) -> bytes | None:
        """The encrypted body, which contains the label; None if it was deleted."""

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
        """Records of one state: waiting and running ones newest first by enqueue, ended ones newest first by end. A
        single filter needs no scan. With several filters, a page may have fewer than ``limit`` records although its
        cursor continues. A cursor of another storage raises ``ValueError``.

        :param subject: HMAC of the subject or the person of an instance."""

    @abstractmethod
    def depths(self) -> Depths:
        """Counts per job and state."""

    @abstractmethod
    def waiting(self, name: str, *, most: int, timeout: float | None = None) -> tuple[int, int | None]:
        """How many instances of a job wait (``queued``, ``scheduled``), counted up to ``most``; and the due time of the
        one that was queued first, None if there is none. Fast, because an enqueue calls it.

        :param timeout: as in :meth:`take_out`."""

    @abstractmethod
    def make_room(self, name: str, *, priority: int, reason: str, timeout: float | None = None) -> str | None:
        """``queued, scheduled -> cancelled`` for one instance of a job: the one of the lowest priority among those
        below this priority, and of several the one enqueued last. Returns its id, or None. Fast, because an enqueue
        waits for it: it reads the newest :data:`LOOKED_AT` of each of the two states.

        :param timeout: as in :meth:`take_out`."""

    @abstractmethod
    def oldest_due(self, *, without: Collection[str]) -> int | None:
        """The due time of the ``queued`` instance that waits longest, without these groups; None if there is none.

        Costs more than :meth:`depths`. If instances are not indexed by group, the storage reads the first
        thousand of each job, and returns None if all of them belong to these groups."""

    @abstractmethod
    def sessions(self) -> list[SessionRecord]:
        """The live sessions, oldest first."""

    @abstractmethod
    def cancel(self, instance_id: str, *, reason: str) -> None:
        """``queued, scheduled -> cancelled``. :raises StateConflict: for another state. :raises InstanceNotFound:"""

    @abstractmethod
    def retry(self, instance_id: str) -> None:
        """``dead -> queued`` with attempts and crashes at zero, in its old place.
        It becomes ``cancelled`` instead if a newer instance with its key waits.
        :raises StateConflict: for another state, or if the body was deleted or the deadline has passed.
        :raises InstanceNotFound:"""

    @abstractmethod
    def reseal(self, instance_id: str, *, old: tuple[bytes, bytes], new: tuple[bytes, bytes]) -> bool:
        """Replace envelope and body of an instance that does not run, if they are still the ``old`` ones; else False.
        For ``pijobs keys`` and ``pijobs schema``; nothing else about the instance changes."""

    @abstractmethod
    def remove(self, instance_id: str) -> None:
        """Delete the record of an ended instance. :raises StateConflict: if it waits or runs.
        :raises InstanceNotFound:"""

    @abstractmethod
    def pause(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        """Lease nothing (of this group) until :meth:`resume`. Running instances continue. Who did it last, when and
        why, is in :attr:`Depths.pause` and :attr:`GroupRecord.pause`."""

    @abstractmethod
    def resume(self, group: str | None = None) -> None:
        """End a :meth:`pause`; wakes the workers."""

    @abstractmethod
    def make_due(self, group: str) -> int:
        """Make instances due that are ``scheduled`` in a group for their next attempt. Others keep their time.
        Returns how many. Wakes the workers. Works in parts of :data:`HOUSEKEEPING_BATCH` instances."""

    @abstractmethod
    def bypass(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        """Store no new instance (of this group) that its caller can run, until :meth:`end_bypass`: see
        :meth:`enqueue_many`. Waiting instances continue. Who did it last, when and why, is in
        :attr:`Depths.bypasses`."""

    @abstractmethod
    def end_bypass(self, group: str | None = None) -> None:
        """End a :meth:`bypass`."""

    def check(self, *, repair: bool = False) -> Iterator[Audit]:
        """Check everything that the queue keeps, a part at a time: instances that can't be read, instances that no
        index lists (so they would never run, expire or be removed), and index entries without an instance. Each sign of
        life checks a part, and repairs it.

        :param repair: repair the faults: an unreadable instance ends ``dead``, with the reason ``"damaged: …"``, and
            keeps its body; everything else is indexed again.
        """
        yield Audit(last=True)

    @abstractmethod
    def groups(self, *, after: str = "", limit: int = GROUPS, healthy: str | None = None) -> list[GroupRecord]:
        """Known groups, by name: up to ``limit`` after the name ``after``. Fewer mean that these were the last.

        :param healthy: leave out groups that are not paused and whose policy is empty or ends with this text. So a
            few groups in trouble are found among many without reading all of them.
        """

    @abstractmethod
    def totals(self, period: Period | None = None) -> dict[str, float]:
        """All totals by name, at one moment; none for a period that was removed."""
