"""What a connection pool has in one process."""

from __future__ import annotations

from typing import Generic, TypeVar

from pijobs.base import clock, threads

C = TypeVar("C")

#: Seconds for which the connector keeps trying after the last request for a connection.
LINGER = 30.0


class PoolState(Generic[C]):
    """The state of a pool in one process, from first use to close."""

    def __init__(self, pid: int, delay: float) -> None:
        self.pid = pid
        self.changed = threads.Condition()
        self.idle: list[C] = []
        #: Closed by the thread that connects, because closing may take time, too.
        self.scrap: list[C] = []
        self.lent = 0
        self.waiting = 0
        #: Connections that callers are creating.
        self.opening = 0
        self.asked = 0.0
        self.connecting = False
        self.closed = False
        #: Why the pool is down, when to try again, and how long to wait after that.
        self.trouble: Exception | None = None
        self.retry_at = 0.0
        self.delay = delay
        self.thread: threads.Thread | None = None

    def fail(self, trouble: Exception, longest: float) -> None:
        """Note that nobody could connect."""
        self.trouble = trouble
        self.retry_at = clock.monotonic() + self.delay
        self.delay = min(self.delay * 2, longest)

    def is_down(self) -> bool:
        return self.trouble is not None and not self.closed

    def has_room(self, size: int) -> bool:
        return self.lent + len(self.idle) + self.opening < size

    def wants(self, size: int) -> bool:
        """Whether a thread should create one more connection."""
        if not self.has_room(size):
            return False
        if self.trouble is not None:
            return clock.monotonic() - self.asked < LINGER
        return self.waiting > len(self.idle)
