"""For servers: storing calls, and moving them from one storage to another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from pijobs.storage.values import End, NewInstance, OnConflict, Stored


class ForServers(ABC):
    """For servers: storing calls, and moving them from one storage to another."""

    def enqueue(
        self,
        new: NewInstance,
        *,
        timeout: float,
        on_conflict: OnConflict = "replace",
        worker_within: int | None = None,
        bypassable: bool = False,
    ) -> Stored:
        """:meth:`enqueue_many` for a single instance."""
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
        """Store instances, all or none, each ``queued``, or ``scheduled`` if its ``due`` is in the future. Each has a
        rule for the case that an instance with its key waits: ``"replace"`` cancels the older of the two (which may be
        the new one, if it comes from a spool), ``"keep"`` keeps the waiting one and returns it instead, ``"error"``
        refuses. The caller makes sure that a batch is no longer than :data:`BATCH`, and that each id appears once.

        Idempotent by id: an id that exists (in any state) is not changed, and its state is returned.

        Of the instances with one key at most one waits, however it came to wait (new, retried by the job or by an
        admin, deferred or returned, recovered): the one that was created last, or of two created at about the same time
        (:data:`~pijobs.storage.values.SAME_TIME`) the one that was stored last. The other is ``cancelled``, with the
        reason ``"superseded by <id>"``. A running one is not touched. If it would wait again, and a newer one came
        meanwhile, it is cancelled. An instance past its deadline holds no key; it ends ``expired`` when it is found.

        :param timeout: seconds after which :class:`StorageUnavailable` must have been raised, including connecting.
        :param worker_within: store only if any worker gave a sign of life within this many ms, else raise
            :class:`~pijobs.errors.NoLiveWorker`. This costs no further round trip.
        :param bypassable: whether the caller can run bypassed instances (see :meth:`bypass`). Then
            :class:`~pijobs.errors.Bypassed` is raised with the ids of those that are new, due now, in a bypassed group,
            and whose key no other waiting instance has. Nothing is stored.
        :raises KeyConflict: an instance with ``"error"`` has the key of a waiting one, or of one earlier in the batch.
        """

    def is_in(self, url: Any) -> bool:
        """Whether the storage is in the database of this URL (of SQLAlchemy), so that :meth:`enqueue_within` works."""
        return False

    def enqueue_within(self, connection: Any, batch: Sequence[tuple[NewInstance, OnConflict]]) -> list[Stored]:
        """:meth:`enqueue_many` in the transaction of a SQLAlchemy connection to the same database. The instances exist
        when it is committed. It takes as long as the transaction.

        :raises QueueUnavailable: the transaction can't continue.
        """
        raise NotImplementedError

    @abstractmethod
    def enqueue_periodic(self, new: NewInstance, *, due: int) -> bool:
        """Store the instance of a periodic job for one due time, exactly once over all workers.

        The last due time of each job (``new.name``) is kept for ever. In one operation: if it is ``>= due``, nothing
        happens and False is returned, else it becomes ``due`` and the instance is stored. A due time more than
        :data:`TAKEN_AHEAD` in the future is ignored, because the clock was wrong."""

    @abstractmethod
    def last_periodic(self, name: str) -> int | None:
        """The last due time that :meth:`enqueue_periodic` stored for this job."""

    @abstractmethod
    def take_out(self, number: int, *, hold: int, timeout: float | None = None) -> list[NewInstance]:
        """Up to ``number`` waiting instances that were never leased, the oldest first, as they were enqueued.

        For ``hold`` ms nobody leases them, nor takes out those that are ``queued``; their state does not change. The
        caller stores them elsewhere and calls :meth:`forget`. If it does not, they can be leased again after that.

        :param timeout: seconds after which :class:`StorageUnavailable` must have been raised; None: the storage's own.
        """

    @abstractmethod
    def forget(self, ids: Sequence[str], *, timeout: float | None = None) -> None:
        """Remove instances that were stored elsewhere, without a record. Those that no longer wait are not touched.

        :param timeout: as in :meth:`take_out`.
        """

    @abstractmethod
    def record_end(self, new: NewInstance, end: End, *, timeout: float | None = None) -> bool:
        """Record the outcome of an instance without a lease: it ran in a request, or can't be stored elsewhere.

        If the id is unknown, the instance is stored as ended. If it waits, it ends. Otherwise nothing happens and False
        is returned. Of ``end``, the state (an ended one), ``counted``, ``reason``, ``error`` and ``entry`` are used. A
        ``dead`` one keeps its body.

        :param timeout: as in :meth:`take_out`.
        """
