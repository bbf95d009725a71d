"""Numbers that options and settings may have. True and False are none."""

from __future__ import annotations

from typing import Any

from pijobs.errors import MAX_SECONDS

MIN_PRIORITY, MAX_PRIORITY = -1000, 1000


def is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it can be a number of seconds: neither NaN nor infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -MAX_SECONDS <= value <= MAX_SECONDS


def is_priority(value: Any) -> bool:
    return is_int(value) and MIN_PRIORITY <= value <= MAX_PRIORITY
