"""What one process knows of an outage of its storage: told once, and not waited for by each call."""

from __future__ import annotations

from dataclasses import dataclass, field

from pijobs.base import clock, threads

#: Seconds after which one call of an outage waits its whole time-out again.
RETRY_EVERY = 1.0


@dataclass
class Outage:
    """The present outage of the storage, and how many calls took another way; for status and metrics."""

    since: float | None = None
    fallbacks: int = 0
    _next_try: float = 0.0
    #: Whoever gets it tells of the outage. Nobody ever waits for it, so that a fork does no harm.
    _told: threads.Lock = field(default_factory=lambda: threads.Lock(), repr=False, compare=False)

    def begins(self) -> bool:
        """A call got no answer; whether it is the first one of this outage."""
        self.fallbacks += 1
        if not self._told.acquire(blocking=False):
            return False
        self._next_try = clock.monotonic() + RETRY_EVERY
        self.since = clock.time()
        return True

    def patience(self, timeout: float) -> float:
        """Seconds that a call may wait for the storage now: not all calls of an outage wait the whole time-out.

        Storages on a server know by themselves that they are away; a file that somebody keeps locked does not.
        """
        if self.since is None:
            return timeout
        now = clock.monotonic()
        if now >= self._next_try:
            self._next_try = now + RETRY_EVERY
            return timeout
        return timeout / 5

    def ends(self) -> float | None:
        """A call got an answer; seconds that the outage lasted, for the first one after it."""
        since = self.since
        if since is None:
            return None
        self.since = None
        try:
            self._told.release()
        except RuntimeError:  # another thread was quicker
            return None
        return clock.time() - since
