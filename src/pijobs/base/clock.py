"""The only module that asks this host for the time, or sleeps. Call its functions through the module, as in
``clock.monotonic()``, because a simulation replaces them here. (ruff refuses other calls.) For the same reason, events,
conditions and threads come from :mod:`pijobs.base.threads`.
"""

from __future__ import annotations

import time as _time
from typing import Protocol

#: Linux stops its plain monotonic clock while the host is suspended, but a lease runs out meanwhile.
_BOOTTIME = getattr(_time, "CLOCK_BOOTTIME", _time.CLOCK_MONOTONIC)

#: Seconds since the epoch; jumps when this host's clock is set.
time = _time.time
#: Nanoseconds since the epoch.
time_ns = _time.time_ns
#: Seconds since some moment; never jumps.
monotonic = _time.monotonic


def boottime() -> float:
    """Seconds since some moment; never jumps, and goes on while the host is suspended."""
    return _time.clock_gettime(_BOOTTIME)


def sleep(seconds: float) -> None:
    """Let the calling thread wait. Looked up when it is called: gevent may have put its own in place."""
    _time.sleep(seconds)


class Clock(Protocol):
    """The clock that a part of pijobs reads."""

    def time(self) -> float:
        """Seconds since the epoch; may jump when the host's clock is set."""

    def monotonic(self) -> float:
        """Seconds since some moment; never jumps, and goes on while the host is suspended."""


class SystemClock:
    """The clock of this host."""

    def time(self) -> float:
        return time()

    def monotonic(self) -> float:
        return boottime()


def server_offset(known: float | None, earliest: float, latest: float) -> float:
    """What to add to this host's monotonic time for the time of a server.

    :param known: what its earlier answers told; it is kept if the new one agrees with it, because a slow answer is
        less exact than a quick one.
    :param earliest: if the server looked at its clock when its answer arrived here.
    :param latest: if it did so when the question was sent.
    """
    return known if known is not None and earliest <= known <= latest else (earliest + latest) / 2


def to_ms(seconds: float) -> int:
    """Seconds as whole milliseconds, the unit of the storages."""
    return round(seconds * 1000)
