"""What a server asks: it stores calls, and moves them from one storage to another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from pijobs.storage.values import (
    End,
    NewInstance,
    OnConflict,
    Stored,
)


class ForServers(ABC):
    """What a server asks: it stores calls, and moves them from one storage to another."""

    def enqueue(
        self,
        new: NewInstance,
        *,
        timeout: float,
        on_conflict: OnConflict = "replace",
        worker_within: int | None = None,
        bypassable: bool = False,
    ) -> Stored:
        """:meth:`enqueue_many` of one."""
        options: dict[str, Any] = {"worker_within": worker_within, "bypassable": bypassable}
        return self.enqueue_many([(new, on_conflict)], timeout=timeout, **options)[0]

    @abstractmethod
    def enqueue_many(
        self,
        batch: Sequence[tuple[NewInstance, OnConflict]],
        *,
        timeout: float,
        worker_within: int | None = None,
        bypassable: bool = False,
    ) -> list[Stored]:
        """Store some instances, all or none, each ``queued``, or ``scheduled`` when its ``due`` lies in the future.
        Each comes with what happens when an instance with its key waits: ``"replace"`` cancels the older of the two
        (which may be the new one, if it comes from a spool), ``"keep"`` leaves the waiting one and returns it instead,
        ``"error"`` refuses. The caller sees to it that a batch is no longer than :data:`BATCH`, and that each id comes
        once.

        Idempotent by id: an id that exists (in whatever state) is left alone, and its state is returned.

        Of the instances with one key at most one waits, whichever way it came to wait (new, retried by the job or by an
        admin, held or given back, recovered): the one that was created last, or of two created at about the same time
        (:data:`~pijobs.storage.values.SAME_TIME`) the one that was stored last. The other is ``cancelled``, with the
        reason ``"superseded by <id>"``. A running one is not touched; if it would wait again, and a newer one came
        meanwhile, it is cancelled. What is past its deadline holds no key; it ends ``expired`` where it is met.

        :param timeout: seconds after which :class:`StorageUnavailable` must have been raised, connecting included.
        :param worker_within: store only if any worker gave a sign of life within so many ms, else raise
            :class:`~pijobs.errors.NoLiveWorker`; costs no further round trip.
        :param bypassable: whether the caller can run what a :meth:`bypass` is about; it is told by
            :class:`~pijobs.errors.Bypassed`, with the ids of those that are new, due now, of such a group, and whose
            key no other one waits with. Then nothing is stored.
        :raises KeyConflict: an instance with ``"error"`` has the key of one that waits, or that comes before it.
        """

    def is_in(self, url: Any) -> bool:
        """Whether it lies in the database of this URL (of SQLAlchemy), so that :meth:`enqueue_within` is possible."""
        return False

    def enqueue_within(self, connection: Any, batch: Sequence[tuple[NewInstance, OnConflict]]) -> list[Stored]:
        """:meth:`enqueue_many` in the transaction of a connection of SQLAlchemy to the same database: all of it happens
        when that is committed. It takes the time that the transaction takes.

        :raises QueueUnavailable: the transaction can't go on.
        """
        raise NotImplementedError

    @abstractmethod
    def enqueue_periodic(self, new: NewInstance, *, due: int) -> bool:
        """Store the instance of a periodic job for one due time, exactly once over all workers.

        The last due time of each job (``new.name``) is kept without limit of time; in one operation: when it is
        ``>= due`` nothing happens and False is returned, else it becomes ``due`` and the instance is stored. A due
        time more than :data:`TAKEN_AHEAD` after the present time counts for nothing: the clock was wrong."""

    @abstractmethod
    def last_periodic(self, name: str) -> int | None:
        """The last due time that :meth:`enqueue_periodic` took for this job."""

    @abstractmethod
    def take_out(self, number: int, *, hold: int, timeout: float | None = None) -> list[NewInstance]:
        """Up to ``number`` waiting instances that were never leased, the oldest first, as they were enqueued.

        For ``hold`` ms nobody leases them, nor takes out those that are ``queued``; they stay what they are. Who took
        them stores them elsewhere and calls :meth:`forget`. If nothing comes of that, they can be leased again.

        :param timeout: seconds after which :class:`StorageUnavailable` must have been raised; None: the storage's own.
        """

    @abstractmethod
    def forget(self, ids: Sequence[str], *, timeout: float | None = None) -> None:
        """Remove instances that have been stored elsewhere, without a record. What no longer waits is left alone.

        :param timeout: as in :meth:`take_out`.
        """

    @abstractmethod
    def record_end(self, new: NewInstance, end: End, *, timeout: float | None = None) -> bool:
        """Write down how an instance ended without a lease: it ran in a request, or can't be stored elsewhere.

        If the id is unknown, the instance is stored as ended. If it waits, it ends. Otherwise nothing happens and False
        is returned. Of ``end`` the state (an ended one), ``counted``, ``reason``, ``error`` and
        ``entry`` count; a ``dead`` one keeps its body.

        :param timeout: as in :meth:`take_out`.
        """
