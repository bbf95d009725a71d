"""The spool: a storage on this machine that takes jobs while the queue's own does not answer, and gives them back.

Workers on this machine lease from both. What none of them took moves to the queue's storage once that answers again:
a thread of the process whose enqueue found that out takes it out of the spool (which holds it back from workers),
stores it under the same id, and then removes it from the spool. After a crash in between, the hold runs out, and the
next one to move it finds its id in the storage already.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import msgspec

from pijobs.codec import Codec
from pijobs.errors import DecodeError, InstanceNotFound, StateConflict, StorageUnavailable
from pijobs.storage.contract import NewInstance, Storage

log = logging.getLogger(__name__)

#: Instances that are taken out at once, and for how long they are held (ms).
BATCH, HOLD = 50, 10_000
#: Seconds after which an enqueue looks into the spool again: another process may have left something there.
LOOK_EVERY = 30.0


def on_clock(new: NewInstance, codec: Codec, shift: int) -> NewInstance:
    """The same instance with its times on another storage's clock.

    The times are sealed in the envelope, so it is encoded anew; one that can't be decoded here stays as it is.

    :param shift: ms that the other clock is ahead.
    """
    if not shift:
        return new
    try:
        call = codec.decode(new.envelope, new.body)
    except DecodeError as error:
        log.warning("job %s %s keeps the times of another clock: %s", new.name, new.id, error)
        return new
    created, deadline = new.created + shift, None if new.deadline is None else new.deadline + shift
    envelope, body = codec.encode(id=new.id, name=new.name, call=call, created=created, deadline=deadline)
    due = None if new.due is None else new.due + shift
    return msgspec.structs.replace(new, envelope=envelope, body=body, created=created, deadline=deadline, due=due)


class Mover:
    """Moves to the storage what no worker took from the spool.

    :param timeout: seconds to wait for one enqueue.
    """

    def __init__(self, spool: Storage, storage: Storage, codec: Callable[[], Codec], timeout: float) -> None:
        self._spool = spool
        self._storage = storage
        self._codec = codec
        self._timeout = timeout
        self._next_look = float("-inf")
        self._thread: threading.Thread | None = None

    def look_soon(self) -> None:
        """There is something in the spool: the next enqueue that succeeds moves it."""
        self._next_look = float("-inf")

    def storage_answers(self) -> None:
        """An enqueue succeeded. Costs it at most the start of a thread, and nearly always a look at a clock."""
        now = time.monotonic()
        # A thread of the parent is not alive after a fork.
        if now < self._next_look or (self._thread is not None and self._thread.is_alive()):
            return
        self._next_look = now + LOOK_EVERY
        thread = threading.Thread(target=self._run, name="pijobs-spool", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends: another enqueue will do it
            return
        self._thread = thread

    def _run(self) -> None:
        try:
            if moved := self.move():
                log.info("%d job instances moved from the spool to %s", moved, self._storage.display_url)
        except StorageUnavailable as error:
            self.look_soon()
            log.warning("the spool could not be emptied, the next enqueue tries again: %s", error)
        except Exception:
            log.exception("the spool could not be emptied")

    def move(self) -> int:
        """Move all that there is; returns the number.

        :raises StorageUnavailable: of one of the two; what was not moved can be leased from the spool after the hold.
        """
        number = 0
        while batch := self._spool.take_out(BATCH, hold=HOLD):
            # Beyond this time a worker may soon take it from the spool.
            until = time.monotonic() + HOLD / 2000
            moved: list[str] = []
            try:
                for new in batch:
                    if time.monotonic() > until:
                        return number + len(moved)
                    self._move(new)
                    moved.append(new.id)
            finally:
                self._spool.forget(moved)
            number += len(moved)
        return number

    def _move(self, new: NewInstance) -> None:
        new = on_clock(new, self._codec(), self._storage.now() - self._spool.now())
        stored = self._storage.enqueue(new, timeout=self._timeout, on_conflict="keep")
        if stored.id != new.id and not self._is_older(stored.id, new):
            # The storage has taken a newer instance with the same key after the outage.
            self._cancel(new, stored.id)
            return
        if stored.id != new.id:
            stored = self._storage.enqueue(new, timeout=self._timeout, on_conflict="replace")
            if stored.replaced is not None:
                log.info("job %s %s: -> cancelled (superseded by %s)", new.name, stored.replaced, new.id)
        log.info("job %s %s: moved from the spool, %s", new.name, new.id, stored.state)

    def _is_older(self, instance_id: str, new: NewInstance) -> bool:
        try:
            return self._storage.get(instance_id).created < new.created
        except InstanceNotFound:
            return True

    def _cancel(self, new: NewInstance, newer: str) -> None:
        log.info("job %s %s: -> cancelled (superseded by %s)", new.name, new.id, newer)
        try:
            self._spool.cancel(new.id, reason=f"superseded by {newer}")
        except (InstanceNotFound, StateConflict):  # the hold ran out
            log.warning("job %s %s: a worker took it from the spool", new.name, new.id)
