"""An outage of the storage as one process sees it: logged once, and calls do not wait for it each time."""

from __future__ import annotations

from dataclasses import dataclass, field

from pijobs.base import clock, threads

#: Seconds after which one call during an outage waits its whole timeout again.
RETRY_EVERY = 1.0


@dataclass
class Outage:
    """The present outage of the storage, and how many calls used a fallback; for status and metrics."""

    since: float | None = None
    fallbacks: int = 0
    _next_try: float = 0.0
    #: The thread that gets this lock logs the outage. No thread waits for it, so a fork is harmless.
    _told: threads.Lock = field(default_factory=lambda: threads.Lock(), repr=False, compare=False)

    def begins(self) -> bool:
        """A call got no answer. :returns: whether it is the first one of this outage."""
        self.fallbacks += 1
        if not self._told.acquire(blocking=False):
            return False
        self._next_try = clock.monotonic() + RETRY_EVERY
        self.since = clock.time()
        return True

    def patience(self, timeout: float) -> float:
        """Seconds that a call may wait for the storage now: not all calls during an outage wait the whole timeout.

        Storages on a server know themselves that they are away; a locked file does not.
        """
        if self.since is None:
            return timeout
        now = clock.monotonic()
        if now >= self._next_try:
            self._next_try = now + RETRY_EVERY
            return timeout
        return timeout / 5

    def ends(self) -> float | None:
        """A call got an answer. :returns: for the first one after an outage, the seconds that the outage lasted."""
        since = self.since
        if since is None:
            return None
        self.since = None
        try:
            self._told.release()
        except RuntimeError:  # another thread was faster
            return None
        return clock.time() - since
