"""How busy a worker process is, as a mean over about the last minute."""

from __future__ import annotations

import math

from pijobs.base import clock, threads

#: Seconds after which older values have a weight of about a third.
MEMORY = 60.0


class Load:
    """The load of one process. All threads report when an attempt begins and ends."""

    def __init__(self) -> None:
        self._lock = threads.Lock()
        #: By token: when the attempt began, and until when it is counted (monotonic seconds).
        self._running: dict[str, tuple[float, float]] = {}
        #: Seconds of work that no sample has counted; ended attempts; their total seconds.
        self._worked, self._ended, self._lasted = 0.0, 0, 0.0
        self._sampled: float | None = None
        #: Mean number of attempts that run at the same time.
        self.busy = 0.0
        #: Mean seconds of an attempt.
        self.took = 0.0

    def begin(self, token: str) -> None:
        """An attempt begins."""
        now = clock.monotonic()
        with self._lock:
            self._running[token] = now, now

    def end(self, token: str) -> None:
        """An attempt has ended."""
        now = clock.monotonic()
        with self._lock:
            began, counted = self._running.pop(token, (now, now))
            self._worked += now - counted
            self._ended += 1
            self._lasted += now - began

    def sample(self) -> None:
        """Add what happened since the last sample. Called with each sign of life."""
        now = clock.monotonic()
        with self._lock:
            for token, (began, counted) in self._running.items():
                self._worked += now - counted
                self._running[token] = began, now
            worked, ended, lasted = self._worked, self._ended, self._lasted
            self._worked, self._ended, self._lasted = 0.0, 0, 0.0
        if self._sampled is not None and now > self._sampled:
            weight = 1 - math.exp((self._sampled - now) / MEMORY)
            self.busy += weight * (worked / (now - self._sampled) - self.busy)
            if ended:
                self.took += (weight if self.took else 1.0) * (lasted / ended - self.took)
        self._sampled = now

    def told(self) -> dict[str, int]:
        """The load as facts of the session, rounded so that they do not change with each sign of life."""
        took = self.took * 1000
        step = 10 ** max(0, math.floor(math.log10(took)) - 1) if took >= 1 else 1
        return {"busy": round(self.busy * 20) * 50, "took": round(took / step) * step}
