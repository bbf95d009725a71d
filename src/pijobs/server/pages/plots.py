"""Geometry of the small plots; the templates draw it as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 400, 80
#: Seconds that the plot of times goes from and to.
SCALE = (0.03, 120.0)


@dataclass(frozen=True, slots=True)
class Bar:
    """A step of the time: what was done, and what failed on top of it."""

    x: float
    width: float
    done: float
    failed: float


def bars(bins: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """Heights of what was done and failed in each step."""
    most = max((row["done"] + row["failed"] for row in bins), default=0) or 1
    step = WIDTH / max(1, len(bins))
    scale = (HEIGHT - 2) / most
    return [
        Bar(_r(step * place + 1), _r(step - 2), _r(row["done"] * scale), _r(row["failed"] * scale))
        for place, row in enumerate(bins)
    ]


def dots(bins: Sequence[Mapping[str, Any]], measure: str) -> list[tuple[float, float]]:
    """Points of ``median`` or ``late`` in each step that has one."""
    step = WIDTH / max(1, len(bins))
    return [
        (_r(step * (place + 0.5)), _r(height_of(row[measure])))
        for place, row in enumerate(bins)
        if row[measure] is not None
    ]


def height_of(seconds: float) -> float:
    """Where a time stands on a logarithmic scale, from the top."""
    shortest, longest = SCALE
    share = math.log(max(shortest, min(longest, seconds)) / shortest) / math.log(longest / shortest)
    return HEIGHT - 4 - share * (HEIGHT - 8)


def _r(value: float) -> float:
    return round(value, 1)
