"""A clock that moves only when a test says so."""

from __future__ import annotations

from pijobs.base import threads


class ManualClock:
    """A clock that stands still until :meth:`advance`.

    :param start: seconds since the epoch.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = start
        self._passed = 0.0
        self._lock = threads.Lock()

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._start + self._passed

    def monotonic(self) -> float:
        """Seconds that have passed since the clock was made."""
        return self._passed

    def advance(self, seconds: float) -> None:
        """Move the clock by ``seconds``. :raises ValueError: if they are negative."""
        if seconds < 0:
            raise ValueError(f"time passes forwards only: expected seconds >= 0, got {seconds!r}")
        with self._lock:
            self._passed += seconds
