"""Gives a Python process a wrong clock: ``PIJOBS_CLOCK_SHIFT`` seconds ahead (below 0: behind).

Found by Python itself where this directory is on ``PYTHONPATH``. ``time.clock_gettime`` keeps telling the right time.
"""

from __future__ import annotations

import os
import time

_SHIFT = float(os.environ.get("PIJOBS_CLOCK_SHIFT", "0"))


def _time() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME) + _SHIFT


def _time_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_REALTIME) + int(_SHIFT * 1e9)


time.time = _time
time.time_ns = _time_ns
