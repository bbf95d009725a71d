"""Time is handed in, so that tests never sleep for it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where a part of pijobs reads the time."""

    def time(self) -> float:
        """Seconds since the epoch; may jump when the host's clock is set."""

    def monotonic(self) -> float:
        """Seconds since some moment; never jumps."""


class SystemClock:
    """The clock of this host."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def to_ms(seconds: float) -> int:
    """Seconds as whole milliseconds, the unit of the storages."""
    return round(seconds * 1000)
