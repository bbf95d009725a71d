"""Time is handed in, so that tests never sleep for it."""

from __future__ import annotations

import time
from typing import Protocol

#: Linux stops its plain monotonic clock while the host is suspended, but a lease runs out meanwhile.
_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Where a part of pijobs reads the time."""

    def time(self) -> float:
        """Seconds since the epoch; may jump when the host's clock is set."""

    def monotonic(self) -> float:
        """Seconds since some moment; never jumps, and goes on while the host is suspended."""


class SystemClock:
    """The clock of this host."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.clock_gettime(_MONOTONIC)


def to_ms(seconds: float) -> int:
    """Seconds as whole milliseconds, the unit of the storages."""
    return round(seconds * 1000)
