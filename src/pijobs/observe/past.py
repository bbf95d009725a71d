"""The last hour, day and week: throughput, times and busy workers, from the totals of minutes and hours.

A process reads each past minute or hour once, so a refresh needs only two short reads. Values as in
:mod:`pijobs.observe.status`; a time is that of a quantile within a bucket of the histogram, so it is exact to about a
factor of two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pijobs.base import threads
from pijobs.metrics.definitions import BOUNDS, series_of
from pijobs.observe.facts import moment
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage
from pijobs.storage.periods import HOUR, MINUTE, Period, Step

#: The periods to choose from: the step of their plots, and the number of steps.
SPANS: Mapping[str, tuple[Step, int]] = {"hour": (MINUTE, 60), "day": (HOUR, 24), "week": (HOUR, 7 * 24)}
#: A period that ended so long ago (ms) does not change any more.
SETTLED = 60_000
_START, _DONE = "pijobs_time_to_start_seconds", "pijobs_enqueue_to_done_seconds"
_BUSY, _FAILED = "pijobs_run_seconds_sum", "pijobs_failed_total"


@dataclass
class Work:
    """What was done for one job and destination. The counts are by the upper bound of a bucket, in seconds."""

    started: dict[float, float] = field(default_factory=dict)
    done: dict[float, float] = field(default_factory=dict)
    failed: float = 0
    #: Seconds of the attempts that ended.
    busy: float = 0

    def add(self, other: Work) -> None:
        for mine, theirs in ((self.started, other.started), (self.done, other.done)):
            for bound, number in theirs.items():
                mine[bound] = mine.get(bound, 0) + number
        self.failed += other.failed

    def told(self) -> dict[str, Any]:
        """``done`` and ``failed``; ``start`` and ``finish``: median and 95th percentile in seconds, or None."""
        return {
            "done": round(sum(self.done.values())),
            "failed": round(self.failed),
            "start": _quantiles(self.started),
            "finish": _quantiles(self.done),
        }


Works = Mapping[tuple[str, str], Work]


class _Kept:
    """Past periods, as this process read them."""

    def __init__(self) -> None:
        self._lock = threads.Lock()
        self._works: dict[Period, Works] = {}

    def read(self, storage: Storage, periods: Iterable[Period], now: int) -> list[tuple[Period, Works]]:
        """:raises StorageUnavailable: when the storage does not answer."""
        found = []
        for period in periods:
            with self._lock:
                works = self._works.get(period)
            if works is None:
                works = _works(storage.totals(period))
                if period.begin + period.step.size + SETTLED < now:
                    self._keep(period, works)
            found.append((period, works))
        return found

    def _keep(self, period: Period, works: Works) -> None:
        with self._lock:
            self._works[period] = works
            for one in [one for one in self._works if one.step == period.step and one.number < period.oldest.number]:
                del self._works[one]


def past(queue: Queue, span: str, *, job: str = "", group: str = "") -> dict[str, Any]:
    """What was done in the last ``"hour"``, ``"day"`` or ``"week"``.

    ``steps`` are those of plots, oldest first: their begin ``at``, ``done``, ``failed``, ``busy`` (workers that were
    busy on average), ``start`` and ``finish`` (of :meth:`Work.told`). ``rows`` are sums by ``job`` and ``group``.

    :param job: only what is of it. :param group: only what went there.
    :raises StorageUnavailable: when the storage does not answer.
    """
    storage = queue.places.storage
    step, number = SPANS[span]
    now = storage.now()
    kept = queue.settings.resource(_Kept, _Kept)
    read = kept.read(storage, Period.at(step, now).back(number), now)
    sums: dict[tuple[str, str], Work] = {}
    steps, shown = list[dict[str, Any]](), list[list[Work]]()
    for period, works in read:
        whole = Work()
        for key, work in works.items():
            sums.setdefault(key, Work()).add(work)
        shown.append([work for key, work in works.items() if job in ("", key[0]) and group in ("", key[1])])
        for work in shown[-1]:
            whole.add(work)
        steps.append({"at": moment(period.begin), **whole.told()})
    for row, (period, _), busy in zip(steps, read, _busy(shown, step.size / 1000), strict=True):
        row["busy"] = busy * 1000 / min(step.size, max(1000, now - period.begin))
    rows = [{"job": key[0], "group": key[1], **work.told()} for key, work in sums.items()]
    busiest = sorted(rows, key=lambda row: (-row["done"] - row["failed"], row["job"], row["group"]))
    return {"seconds": step.size // 1000, "steps": steps, "rows": busiest}


def _busy(works: Sequence[Iterable[Work]], size: float) -> list[float]:
    """For each step, the seconds of attempts in it. An attempt is counted when it ends, its wait for the start as well;
    so those that took longer than a step are spread over the steps before.

    :param size: seconds of a step.
    """
    busy = [0.0] * len(works)
    for end, of_step in enumerate(works):
        for work in of_step:
            attempts = sum(work.started.values())
            parts = max(1, math.ceil(work.busy / max(1.0, attempts) / size))
            for step in range(max(0, end - parts + 1), end + 1):
                busy[step] += work.busy / parts
    return busy


def _works(totals: Mapping[str, float]) -> dict[tuple[str, str], Work]:
    found: dict[tuple[str, str], Work] = {}
    for total, value in totals.items():
        name, pairs = series_of(total)
        labels = dict(pairs)
        work = found.setdefault((labels.get("job", ""), labels.get("group", "")), Work())
        if name == _START:
            work.started[float(labels["le"])] = value
        elif name == _DONE:
            work.done[float(labels["le"])] = value
        elif name == _BUSY:
            work.busy += value
        elif name == _FAILED:
            work.failed += value
    return found


def _quantiles(counts: Mapping[float, float]) -> tuple[float, float] | None:
    whole = sum(counts.values())
    if not whole:
        return None
    ordered = sorted(counts.items())
    return _quantile(ordered, whole * 0.5), _quantile(ordered, whole * 0.95)


def _quantile(ordered: Sequence[tuple[float, float]], rank: float) -> float:
    """Interpolates linearly within the bucket, as Prometheus does."""
    below = 0.0
    for bound, number in ordered:
        if below + number >= rank:
            lower = max((one for one in (0.0, *BOUNDS) if one < bound), default=0.0)
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / number
        below += number
    return ordered[-1][0]
