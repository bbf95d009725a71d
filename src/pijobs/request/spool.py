"""The spool: a storage on this machine that stores jobs while the queue's own storage does not answer.

Workers on this machine lease from both. When the storage answers again, they move the instances that none of them has
leased. If no worker lives, the server does it for a moment, in the thread of an enqueue that succeeded. It uses no
other thread: a server that runs no threads (uWSGI by default) would stop that thread in the middle of a transaction.

A move takes instances out of the spool (which holds them back from workers), stores them under the same id, and then
removes them from the spool. After a crash in between, the hold ends, and the next move finds their ids in the storage.
An instance that the storage can't store, although it stores others, becomes a dead letter in the spool.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from pijobs.base import clock, threads
from pijobs.base.clock import to_ms
from pijobs.errors import (
    DecodeError,
    EncodeError,
    InstanceNotFound,
    InstanceRefused,
    PijobsError,
    StorageFull,
    StorageUnavailable,
)
from pijobs.jobs import State
from pijobs.payload.codec import Codec
from pijobs.storage.contract import Storage
from pijobs.storage.values import BATCH as MOST_AT_ONCE
from pijobs.storage.values import End, NewInstance

log = logging.getLogger(__name__)

#: Instances that are taken out at once; for how long they are held, and how long their move may take (seconds). The
#: hold is longer, and starts later: a process that was stopped in between begins no move after it.
BATCH, HOLD, MOVE_TIME = 50, 2.0, 1.0
#: The same in a request, which lends its time.
REQUEST_BATCH, REQUEST_TIME = 20, 0.1
#: Seconds between two checks of the spool: if it has instances, and if it is empty.
LOOK_AGAIN, LOOK_EVERY = 1.0, 30.0
#: Seconds without a move after a failed one: longer than the hold, so that workers here can lease the instances.
LEFT_ALONE = 4.0
#: After this many failed moves while the storage answered, the instance itself is at fault.
MOST_STRIKES = 3


def on_clock(new: NewInstance, codec: Codec, shift: int) -> NewInstance:
    """The same instance with its times on another storage's clock.

    The times are sealed in the envelope, so it is encoded again, from the data in the envelope: columns are not
    authenticated, and somebody who can write to the spool must not get a name, id or deadline of his choice sealed. An
    instance that can't be decoded here, or differs from its record, does not change; a worker judges it.

    :param shift: ms that the other clock is ahead.
    """
    if not shift:
        return new
    try:
        call = codec.decode(new.envelope, new.body)
    except DecodeError as error:
        log.warning("job %s %s keeps the times of another clock: %s", new.name, new.id, error)
        return new
    sealed = call.envelope
    assert sealed is not None
    if (sealed.id, sealed.name) != (new.id, new.name):
        log.error("job %s %s: its envelope belongs to another instance; it is not sealed again", new.name, new.id)
        return new
    # Seal the caller's deadline, and not the limit of the instance's age.
    created, deadline, bound, due = (
        None if time is None else time + shift for time in (sealed.created, sealed.deadline, new.deadline, new.due)
    )
    assert created is not None
    envelope, body = codec.encode(id=sealed.id, name=sealed.name, call=call, created=created, deadline=deadline)
    bound = bound if deadline is None else deadline
    return msgspec.structs.replace(new, envelope=envelope, body=body, created=created, deadline=bound, due=due)


def known(ids: Sequence[str], storage: Storage) -> list[str]:
    """The ids that the storage has; none after it stopped answering."""
    found = []
    for instance_id in ids:
        try:
            storage.get(instance_id)
        except InstanceNotFound:
            continue
        except StorageUnavailable:
            break
        found.append(instance_id)
    return found


class Mover:
    """Moves instances to the storage: from the spool, from an outbox, or from a storage that is given up.

    It never removes an instance before the storage has acknowledged it. The two must not be the same storage.

    :param timeout: seconds to wait for one enqueue.
    :param parked: called with each instance that the storage can't store.
    :param keeps_house: do the housekeeping of the spool, because no worker leases from it.
    """

    def __init__(
        self,
        spool: Storage,
        storage: Storage,
        codec: Callable[[], Codec],
        timeout: float,
        parked: Callable[[NewInstance], None] = lambda new: None,
        *,
        keeps_house: bool = False,
    ) -> None:
        self.spool = spool
        self._keeps_house = keeps_house
        self._kept_house = float("-inf")
        self._storage = storage
        self._codec = codec
        self._timeout = timeout
        self._parked = parked
        self._next_look = float("-inf")
        #: Per process, because a child may be forked while a thread of its parent moves.
        self._moving: dict[int, threads.Lock] = {}
        #: How many times the move of an instance failed.
        self._strikes: dict[str, int] = {}

    def look_soon(self) -> None:
        """The spool has instances: check it when the storage answers again."""
        self._next_look = float("-inf")

    def after_enqueue(self) -> None:
        """For a server: an enqueue succeeded. This nearly always costs only a look at the clock, and never more than
        :data:`REQUEST_TIME` and the present move."""
        self._look(REQUEST_BATCH, REQUEST_TIME, only_if_no_worker_lives=True)

    def after_step(self) -> None:
        """For a worker: the storage answered."""
        self._look(BATCH, MOVE_TIME, only_if_no_worker_lives=False, every=LOOK_AGAIN)
        now = clock.monotonic()
        if self._keeps_house and now >= self._kept_house + LOOK_EVERY:
            self._kept_house = now
            with suppress(StorageUnavailable):  # a look at what waits tells
                self.spool.beat("", lease=to_ms(LOOK_EVERY))

    def carry(self, batch: Sequence[NewInstance]) -> None:
        """Move these instances, which are certainly there. The rest is left to :meth:`after_step`."""
        try:
            for start in range(0, len(batch), MOST_AT_ONCE):
                some = batch[start : start + MOST_AT_ONCE]
                shift = self._storage.now() - self.spool.now()
                there = [on_clock(new, self._codec(), shift) for new in some]
                self._storage.enqueue_many([(new, "replace") for new in there], timeout=self._timeout)
                self.spool.forget([new.id for new in some], timeout=self._timeout)
        except (StorageUnavailable, InstanceRefused, EncodeError) as error:
            log.warning("%d job instances are not moved now, but later: %s", len(batch), error)

    def _look(self, most: int, seconds: float, *, only_if_no_worker_lives: bool, every: float = LOOK_EVERY) -> None:
        now = clock.monotonic()
        if now < self._next_look:
            return
        lock = self._moving.setdefault(os.getpid(), threads.Lock())
        if not lock.acquire(blocking=False):
            return
        try:
            self._next_look = now + every
            if only_if_no_worker_lives and self.spool.sessions():
                return
            if not self._something_waits():
                return
            self._next_look = now + LOOK_AGAIN
            while moved := self.move(most, seconds):
                log.info(
                    "%d job instances moved from %s to %s", moved, self.spool.display_url, self._storage.display_url
                )
                if clock.monotonic() - now >= seconds:
                    self.look_soon()
                    break
        except StorageUnavailable as error:
            self._next_look = now + LEFT_ALONE
            log.warning("the spool could not be emptied; its workers continue, and the next move follows: %s", error)
        except Exception:
            log.exception("the spool could not be emptied")
        finally:
            lock.release()

    def _something_waits(self) -> bool:
        """Check without a lock on the spool, because its workers need it."""
        return any(self.spool.page(state, limit=1).records for state in (State.SCHEDULED, State.QUEUED))

    def move(self, most: int = BATCH, seconds: float = MOVE_TIME) -> int:
        """Move up to this many instances, for at most this many seconds; returns how many were moved.

        :raises StorageUnavailable: one of the two does not answer. Instances that were not moved can be leased from
            the spool after the hold.
        """
        # The hold begins later than this, so it covers the whole time.
        end = clock.monotonic() + min(seconds, MOVE_TIME)
        batch = self.spool.take_out(most, hold=to_ms(HOLD), timeout=seconds)
        moved: list[str] = []
        failed = 0
        try:
            # Instances that failed before come last, so that others do not wait for them.
            for new in sorted(batch, key=lambda new: self._strikes.get(new.id, 0)):
                if clock.monotonic() >= end:
                    break
                try:
                    self._move(new, min(self._timeout, HOLD - MOVE_TIME))
                except StorageUnavailable as error:
                    failed += 1
                    if isinstance(error, StorageFull) or (not self._strike(new, error) and failed > 1):
                        raise
                except (InstanceRefused, EncodeError) as error:
                    self._park(new, error)
                else:
                    failed = 0
                    self._strikes.pop(new.id, None)
                    moved.append(new.id)
        finally:
            if moved:
                self.spool.forget(moved, timeout=max(seconds, self._timeout))
        return len(moved)

    def _move(self, new: NewInstance, timeout: float) -> None:
        new = on_clock(new, self._codec(), self._storage.now() - self.spool.now())
        stored = self._storage.enqueue(new, timeout=timeout)
        if stored.replaced is not None:
            log.info("job %s %s: -> cancelled (superseded by %s)", new.name, stored.replaced, new.id)
        log.info("job %s %s: moved from %s, %s", new.name, new.id, self.spool.display_url, stored.state)

    # -- what the storage can't take ---------------------------------------------------------------------------------

    def _strike(self, new: NewInstance, error: StorageUnavailable) -> bool:
        """Whether the instance is at fault, and not the storage, and became a dead letter for that.

        Not every storage says so: Redis closes the connection for a value that is too large. A storage that is full or
        read-only fails in the same way, although it answers. So test the storage first.
        """
        strikes = self._strikes[new.id] = self._strikes.get(new.id, 0) + 1
        if strikes <= MOST_STRIKES or not self._takes_others():
            return False
        self._park(new, error)
        return True

    def _takes_others(self) -> bool:
        try:
            self._storage.try_out()
        except StorageUnavailable:
            return False
        return True

    def _park(self, new: NewInstance, error: PijobsError) -> None:
        self._strikes.pop(new.id, None)
        size = len(new.envelope) + len(new.body)
        reason = f"the storage can't store this instance ({size / 1e6:.1f} MB), though it stores others: {error}"
        log.error("job %s %s: %s -> dead in %s: %s", new.name, new.id, State.QUEUED, self.spool.display_url, reason)
        entry = msgspec.json.encode({"at": self.spool.now(), "event": "parked", "reason": reason}).decode()
        end = End(new.id, "", State.DEAD, counted=False, reason=reason, error=type(error).__name__, entry=entry)
        if self.spool.record_end(new, end, timeout=self._timeout):
            self._parked(new)
