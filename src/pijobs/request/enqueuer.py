"""Stores calls, and uses the fallbacks if the storage does not store them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pijobs.base import clock
from pijobs.base.clock import to_ms
from pijobs.errors import (
    Bypassed,
    InstanceRefused,
    NoLiveWorker,
    PijobsError,
    QueueFull,
    QueueUnavailable,
    StorageError,
    StorageUnavailable,
)
from pijobs.jobs import State
from pijobs.payload.codec import Call
from pijobs.plugins.hookspecs import InstanceEvent
from pijobs.request import direct
from pijobs.request.bounds import Bounds
from pijobs.request.calls import Handle, Pending, batches
from pijobs.request.outage import Outage
from pijobs.request.spool import Mover, on_clock
from pijobs.settings import PREFIX
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, NewInstance

if TYPE_CHECKING:
    from pijobs.request.queue import Queue

log = logging.getLogger(__name__)

#: After this many seconds without a sign of life a worker does not count (WITHOUT_WORKER).
WORKER_ABSENT = 30.0


class Enqueuer:
    """The enqueuer of one queue. :ivar mover: empties the spool; None: there is no spool."""

    def __init__(self, queue: Queue, storage: Storage, spool: Storage | None, outage: Outage) -> None:
        self._queue = queue
        self._settings, self._metrics, self._outage = queue.settings, queue.metrics, outage
        timeout = self._settings.enqueue_timeout
        #: Whether fallbacks were counted that the storage does not have yet.
        self._owes_counts = False
        self.ends = direct.Ends(spool, storage, queue.codec, timeout)
        self._bounds = Bounds(storage, self._settings.bounds, timeout)
        self.mover: Mover | None = None
        if spool is not None:
            self._spool_bounds = Bounds(spool, self._settings.bounds, timeout)
            self.mover = Mover(spool, storage, queue.codec, timeout, self._parked)

    def store(self, pending: Sequence[Pending]) -> list[Handle]:
        handles: dict[str, Handle] = {}
        try:
            for batch in batches(pending, self._bounds):
                # After a batch without an answer, later batches do not wait.
                handles.update(self._store(batch, away=bool(handles) and self._outage.since is not None))
        except PijobsError as error:
            error.stored = (*handles.values(), *error.stored)
            raise
        return [handles[one.new.id] for one in pending]

    def _store(self, batch: Sequence[Pending], *, away: bool) -> dict[str, Handle]:
        """Store all of a batch, or none. :returns: handles by id.

        :param away: do not ask the storage."""
        began = clock.monotonic()
        self.refuse_full({one.new.name for one in batch})
        handles = {one.new.id: handle for one in batch if (handle := self._bounded(one, began)) is not None}
        if waiting := [one for one in batch if one.new.id not in handles]:
            way = self._away if away else self._ask
            handles.update(way(waiting, began))
        return handles

    def _ask(self, batch: Sequence[Pending], began: float) -> dict[str, Handle]:
        urgent = self._settings.without_worker == "direct" and any(one.has_deadline for one in batch)
        try:
            stored = self._queue.present_storage().enqueue_many(
                [(one.new, one.on_conflict) for one in batch],
                timeout=self._outage.patience(self._settings.enqueue_timeout),
                worker_within=to_ms(WORKER_ABSENT) if urgent else None,
                bypassable=True,
            )
        except Bypassed as found:
            return self._bypass(batch, found.ids, began)
        except NoLiveWorker:
            return self._without_worker(batch, began)
        except InstanceRefused as error:
            return self._refused(batch, error, began)
        except StorageUnavailable as error:
            return self._fall_back(batch, error, began)
        self._storage_answered()
        for name, number in Counter(one.new.name for one in batch).items():
            self._bounds.stored(name, number)
        return {one.new.id: self._queue.stored(one.new, told) for one, told in zip(batch, stored, strict=True)}

    def _away(self, batch: Sequence[Pending], began: float) -> dict[str, Handle]:
        return self._fall_back(batch, StorageUnavailable("it gave no answer a moment ago"), began)

    def _bypass(self, batch: Sequence[Pending], ids: Collection[str], began: float) -> dict[str, Handle]:
        """Run the instances with these ids in the request, and store the others."""
        self._storage_answered()
        others = [one for one in batch if one.new.id not in ids]
        handles = self._ask(others, began) if others else {}
        bypassed = [one for one in batch if one.new.id in ids]
        for one in bypassed:
            self._count_fallback(one.new.name, "bypass")
            log.info("job %s %s: the queue is bypassed, it runs in the request", one.new.name, one.new.id)
        return handles | self._run_all(bypassed, began)

    def _without_worker(self, batch: Sequence[Pending], began: float) -> dict[str, Handle]:
        self._storage_answered()
        patient = [one for one in batch if not one.has_deadline]
        handles = self._ask(patient, began) if patient else {}
        urgent = [one for one in batch if one.has_deadline]
        for one in urgent:
            self._count_fallback(one.new.name, "without_worker")
            log.warning("job %s %s: no worker gave a sign of life, it runs in the request", one.new.name, one.new.id)
        return handles | self._run_all(urgent, began)

    def refuse_full(self, names: Collection[str]) -> None:
        """:raises QueueFull: too many instances of one of the jobs wait."""
        for name in names:
            try:
                reached = self._bounds.reached(name)
            except StorageUnavailable:  # the enqueue reports it
                continue
            if reached is not None and self._bounds.of(name).full == "refuse":
                log.info("job %s: %s", name, reached)
                self._count_fallback(name, "refused")
                raise QueueFull(f"job {name!r} is refused: {reached}; see {PREFIX}BOUNDS")

    def _bounded(self, one: Pending, began: float) -> Handle | None:
        """The handle of the call if too many of its job wait; None: it may be stored."""
        new = one.new
        full = self._bounds.of(new.name).full
        try:
            reached = self._bounds.reached(new.name)
            makes_room = reached is not None and full == "drop" and self._bounds.made_room(new, reached)
        except StorageUnavailable:  # the enqueue reports it
            return None
        if reached is None:
            return None
        log.info("job %s %s: %s", new.name, new.id, reached)
        if makes_room or (full == "drop" and new.priority < self._queue.registry[new.name].priority):
            self._count_fallback(new.name, "dropped")
            return None if makes_room else self._dropped(new, reached)
        self._count_fallback(new.name, "full")
        self._storage_answered()
        return self._run_now(one.call, new, began)

    def _dropped(self, new: NewInstance, reached: str) -> Handle:
        reason = f"dropped, because its priority is low: {reached}"
        self.ends.record(new, End(new.id, "", State.CANCELLED, counted=False, reason=reason), away=False)
        return Handle(new.id, State.CANCELLED, via="dropped", reason=reason)

    def _fall_back(self, batch: Sequence[Pending], error: StorageUnavailable, began: float) -> dict[str, Handle]:
        self._storage_failed(error)
        handles: dict[str, Handle] = {}
        for way in self._settings.fallback:
            left = [one for one in batch if one.new.id not in handles]
            if way == "direct":
                for one in left:
                    self._count_fallback(one.new.name, way)
                handles.update(self._run_all(left, began))
            elif self._queue.spool is not None:
                # A job with a deadline goes to the spool only if a worker empties it.
                for urgent in (False, True):
                    handles.update(
                        self._spooled(self._queue.spool, [one for one in left if one.has_deadline is urgent])
                    )
        if len(handles) == len(batch):
            return handles
        left = [one for one in batch if one.new.id not in handles]
        for one in left:
            self._count_fallback(one.new.name, "refused")
        name = left[0].new.name
        refused = QueueUnavailable(f"the storage does not answer and no fallback took job {name!r}")
        refused.stored = tuple(handles.values())
        raise refused from error

    def _refused(self, batch: Sequence[Pending], error: InstanceRefused, began: float) -> dict[str, Handle]:
        """This is not an outage. The spool would not help, because its instances move to the storage."""
        if "direct" not in self._settings.fallback:
            for one in batch:
                self._count_fallback(one.new.name, "refused")
            raise error
        if len(batch) > 1:
            return {one.new.id: handle for one in batch for handle in self._ask([one], began).values()}
        [one] = batch
        log.error("job %s %s: the storage can't store it: %s", one.new.name, one.new.id, error)
        self._count_fallback(one.new.name, "direct")
        return {one.new.id: self._run_now(one.call, one.new, began)}

    def _spooled(self, spool: Storage, batch: Sequence[Pending]) -> dict[str, Handle]:
        """Store instances in the spool. Either all or none have a deadline. :returns: handles of the stored ones."""
        assert self.mover is not None
        # Workers give it a sign of life several times in a lease.
        alive = min(self._settings.lease, WORKER_ABSENT)
        shift = spool.now() - self._queue.present_storage().now()
        try:
            batch = [one for one in batch if self._spool_bounds.reached(one.new.name) is None]
            if not batch:
                return {}
            stored = spool.enqueue_many(
                [(on_clock(one.new, self._queue.codec(), shift), one.on_conflict) for one in batch],
                timeout=self._settings.enqueue_timeout,
                worker_within=to_ms(alive) if batch[0].has_deadline else None,
            )
        except NoLiveWorker:
            return {}
        except StorageUnavailable as error:
            log.error("the spool does not answer: %s", error)
            return {}
        self.mover.look_soon()
        for name, number in Counter(one.new.name for one in batch).items():
            self._spool_bounds.stored(name, number)
            self._count_fallback(name, "spool", number)
        return {
            one.new.id: self._queue.stored(one.new, told, via="spool") for one, told in zip(batch, stored, strict=True)
        }

    def _run_all(self, batch: Sequence[Pending], began: float) -> dict[str, Handle]:
        """Run each of them, even after one whose exception goes to the caller (``DIRECT_RAISES``)."""
        handles, raised = dict[str, Handle](), list[Exception]()
        for one in batch:
            try:
                handles[one.new.id] = self._run_now(one.call, one.new, began)
            except Exception as error:
                raised.append(error)
        if raised:
            raise raised[0]
        return handles

    def _run_now(self, call: Call, new: NewInstance, began: float) -> Handle:
        """Run a job as a fallback: once, in a new context. The outcome is logged, recorded, and in the handle.

        :param began: when the call was made (monotonic seconds).
        """
        end, error = direct.run(self._queue.runner, new, call, began)
        log.log(
            logging.INFO if end.state is State.DONE else logging.ERROR, "job %s %s: -> %s in the request%s",
            new.name, new.id, end.state, f": {end.reason}" if end.reason else "",
        )  # fmt: skip
        if end.state is not State.DONE:
            self._metrics.failed(new.name, new.group, end.state.value)
        self.ends.record(new, end, away=self._outage.since is not None)
        if self._queue.plugins.listen("job_finished"):
            event = InstanceEvent(
                id=new.id, name=new.name, group=new.group, state=end.state.value, attempt=1, error=end.error,
                reason=end.reason,
            )  # fmt: skip
            self._queue.plugins.call("job_finished", event=event)
        wanted = self._settings.direct_raises
        if error is not None and (self._queue.direct_raises if wanted is None else wanted):
            raise error
        return Handle(new.id, end.state, via="direct", reason=end.reason)

    def _storage_failed(self, error: StorageUnavailable) -> None:
        if self._outage.begins():
            log.error("the queue's storage %s, jobs take %s: %s", error.what, self._settings.fallback, error)

    def _count_fallback(self, name: str, way: str, number: int = 1) -> None:
        for _ in range(number):
            self._metrics.fallback(name, way)
        self._owes_counts = True

    def _storage_answered(self) -> None:
        seconds = self._outage.ends()
        if seconds is not None:
            log.warning("the queue's storage answers again after %.1f s", seconds)
        if self._owes_counts:
            self._tell_counts()
        self.ends.tell()
        for mover in (self.mover, self._queue.transactions.mover):
            if mover is not None:
                mover.after_enqueue()

    def _tell_counts(self) -> None:
        """Store the counts of fallbacks, in the calling thread: a server that runs no threads would stop another
        thread, maybe while it holds a lock of the storage."""
        self._owes_counts = False
        add_totals = partial(self._queue.present_storage().add_totals, timeout=self._settings.enqueue_timeout)
        try:
            self._metrics.flush(add_totals)
        except StorageError as error:
            self._owes_counts = True
            log.debug("the counts are kept until the storage answers: %s", error)

    def _parked(self, new: NewInstance) -> None:
        self._metrics.failed(new.name, new.group, State.DEAD.value)
