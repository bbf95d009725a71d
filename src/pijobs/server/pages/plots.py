"""The small plots: positions and texts, which the templates draw as SVG.

No library: libraries for servers put styles into the SVG, which the pages' Content-Security-Policy forbids; libraries
for browsers need a script.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pijobs.server.pages.formatting import count, decimal, duration
from pijobs.server.pages.languages import _

WIDTH, HEIGHT = 400, 80
#: Range of a plot of times, and the positions of its lines; seconds.
SCALE = (0.004, 1000.0)
LINES = (0.01, 0.1, 1, 10, 100)


@dataclass(frozen=True, slots=True)
class Mark:
    """A rectangle. :ivar kind: class in the style sheet."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the time axis. :ivar text: shown to a user who points at it."""

    x: float
    width: float
    at: str
    text: str
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot. :ivar summary: text about all steps. :ivar ticks: height and label. :ivar keys: class and label."""

    name: str
    title: str
    summary: str
    steps: Sequence[Step]
    ticks: Sequence[tuple[float, str]]
    keys: Sequence[tuple[str, str]]


def of_past(past: Mapping[str, Any], workers: int) -> list[Plot]:
    """The plots of :func:`pijobs.observe.past.past`. :param workers: number of workers now."""
    steps = past["steps"]
    return [_throughput(steps), *_times(steps), _busy(steps, workers)]


def _throughput(steps: Sequence[Mapping[str, Any]]) -> Plot:
    def text_of(step: Mapping[str, Any]) -> str:
        return _("{done} done, {failed} failed", done=count(step["done"]), failed=count(step["failed"]))

    most = max((step["done"] + step["failed"] for step in steps), default=0)

    def marks(step: Mapping[str, Any]) -> Iterator[Mark]:
        done, failed = (step[name] * (HEIGHT - 2) / (most or 1) for name in ("done", "failed"))
        yield from _bar("done", HEIGHT - done, done)
        yield from _bar("failed", HEIGHT - done - failed, failed)

    whole = {name: sum(step[name] for step in steps) for name in ("done", "failed")}
    keys = [("done", _("done")), ("failed", _("failed"))]
    return Plot("throughput", _("Done and failed"), text_of(whole), _steps(steps, text_of, marks), _top(most), keys)


def _times(steps: Sequence[Mapping[str, Any]]) -> Iterator[Plot]:
    ticks = [(height_of(seconds), duration(seconds)) for seconds in LINES]
    keys = [("median", _("median")), ("late", _("95th percentile"))]
    titles = {"start": _("From due to start"), "finish": _("From enqueue to done")}
    for measure, title in titles.items():

        def text_of(step: Mapping[str, Any], measure: str = measure) -> str:
            if step[measure] is None:
                return _("nothing")
            median, late = map(duration, step[measure])
            return _("median {median}, 95 % below {late}", median=median, late=late)

        def marks(step: Mapping[str, Any], measure: str = measure) -> Iterator[Mark]:
            if step[measure] is not None:
                median, late = map(height_of, step[measure])
                yield Mark("late", _r(late - 1), 2)
                yield Mark("median", _r(median - 1.5), 3)

        slowest = max((step for step in steps if step[measure]), key=lambda step: step[measure][1], default=None)
        summary = _("nothing") if slowest is None else _("slowest: {told}", told=text_of(slowest))
        yield Plot(measure, title, summary, _steps(steps, text_of, marks), ticks, keys)


def _busy(steps: Sequence[Mapping[str, Any]], workers: int) -> Plot:
    def text_of(step: Mapping[str, Any]) -> str:
        return _("{busy} of {workers} workers busy", busy=decimal(step["busy"], 1), workers=workers)

    most = max(workers, *(step["busy"] for step in steps), 0)

    def marks(step: Mapping[str, Any]) -> Iterator[Mark]:
        height = step["busy"] * (HEIGHT - 2) / (most or 1)
        yield from _bar("done", HEIGHT - height, height)

    peak = max(steps, key=lambda step: step["busy"])
    summary = _("at most {told}", told=text_of(peak))
    return Plot(
        "busy", _("Busy workers"), summary, _steps(steps, text_of, marks), _top(most), [("done", _("busy on average"))]
    )


def of_bins(name: str, title: str, values: Sequence[float], ats: Sequence[str], summary: str) -> Plot:
    """A plot with one bar for each value. :param ats: begin of each step, as ISO 8601."""
    most = max(values, default=0)
    rows = [{"at": at, "value": value} for at, value in zip(ats, values, strict=True)]

    def text_of(step: Mapping[str, Any]) -> str:
        return count(step["value"])

    def marks(step: Mapping[str, Any]) -> Iterator[Mark]:
        height = step["value"] * (HEIGHT - 2) / (most or 1)
        yield from _bar("done", HEIGHT - height, height)

    return Plot(name, title, summary, _steps(rows, text_of, marks), _top(most), [])


def _steps(
    rows: Sequence[Mapping[str, Any]],
    text_of: Callable[[Mapping[str, Any]], str],
    marks: Callable[[Mapping[str, Any]], Iterable[Mark]],
) -> list[Step]:
    width = WIDTH / max(1, len(rows))
    gap = min(1.0, width / 8)
    return [
        Step(_r(width * place + gap), _r(width - 2 * gap), row["at"], text_of(row), list(marks(row)))
        for place, row in enumerate(rows)
    ]


def _bar(kind: str, y: float, height: float) -> Iterator[Mark]:
    if height > 0:
        yield Mark(kind, _r(y), _r(height))


def _top(most: float) -> list[tuple[float, str]]:
    return [(2.0, count(round(most, 1) if most % 1 else int(most)))] if most else []


def height_of(seconds: float) -> float:
    """The vertical position of a time on a logarithmic scale, from the top."""
    shortest, longest = SCALE
    share = math.log(max(shortest, min(longest, seconds)) / shortest) / math.log(longest / shortest)
    return _r(HEIGHT - 4 - share * (HEIGHT - 8))


def _r(value: float) -> float:
    return round(value, 2)
