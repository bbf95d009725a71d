"""``/metrics``: the present state of the queue, and the counters of all its processes."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from pijobs.errors import StorageUnavailable
from pijobs.metrics.counting import MOST_SERIES, OTHER, shown_value
from pijobs.metrics.definitions import (
    BOUNDS,
    BY_NAME,
    FAILED_STATES,
    FAMILIES,
    RESULTS,
    SECURITY_EVENTS,
    WAYS,
    Labels,
    series_of,
)
from pijobs.observe import facts, status
from pijobs.observe.checks import TABLE, severity_of
from pijobs.observe.readiness import readiness
from pijobs.plugins.hookspecs import CheckResult
from pijobs.request.queue import Queue
from pijobs.storage import periods
from pijobs.storage.contract import Storage

MEASURED = "Counted by a job."
BREAKERS = ("closed", "half-open", "open")
Rows = dict[Labels, float]


def exposition(queue: Queue) -> bytes:
    """The text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(queue))
    return generate_latest(registry)


class _Collector:
    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        answer = status.overview(self._queue)
        found = self._stored(answer)
        # Without the storage, show only the spool. A counter that restarts at 0 would look like a surge.
        yield _gauge("pijobs_storage_up", {(): float(found is not None)})
        yield _gauge("pijobs_check_failing", _of_checks(readiness(self._queue, answer)))
        for name, rows in _of_jobs(answer.get("spool") or {}, "pijobs_spool").items():
            yield _gauge(name, rows)
        if found is None:
            return
        groups, totals = found
        for name, rows in {**_of_queue(answer), **_of_groups(groups)}.items():
            yield _gauge(name, rows)
        yield from _counted(totals, _zeros(self._queue))

    def _stored(self, answer: Mapping[str, Any]) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, float]] | None:
        storage = self._queue.storage
        if storage is None or not answer["reachable"]:
            return None
        try:
            return _troubled_first(facts.groups(storage)), self._totals(storage)
        except StorageUnavailable:
            return None

    def _totals(self, storage: Storage) -> Mapping[str, float]:
        # Write this process's counts first, not only into this answer: another process's answer would lack them.
        self._queue.metrics.flush(partial(periods.add, storage))
        return storage.totals()


def _of_checks(checks: Sequence[tuple[str, CheckResult]]) -> Rows:
    rows: Rows = {}
    for name, result in checks:
        row, found = TABLE.get(name), severity_of(result)
        severity = row.severity if row is not None else found or "critical"
        rows[("check", name), ("severity", severity)] = float(found is not None)
    return rows


def _of_jobs(jobs: Mapping[str, Mapping[str, Any]], prefix: str) -> dict[str, Rows]:
    return {
        f"{prefix}_instances": {
            (("job", job), ("state", state.value)): row.get(state.value, 0)
            for job, row in jobs.items()
            for state in facts.STATE_ORDER
        },
        f"{prefix}_oldest_due_seconds": {(("job", job),): row.get("oldest_age", 0.0) for job, row in jobs.items()},
    }


def _of_queue(answer: Mapping[str, Any]) -> dict[str, Rows]:
    seen = answer["worker_seen_age"]
    return {
        **_of_jobs(answer["jobs"], "pijobs"),
        "pijobs_waiting_bound": {
            (("job", row["job"]),): row["waiting"] for row in answer["bounds"] if row["waiting"] is not None
        },
        "pijobs_paused": {(): float(answer["paused"])},
        "pijobs_housekeeping_backlog": {(): answer["backlog"]},
        "pijobs_totals": {(): answer["totals"]},
        "pijobs_worker_processes": {(): len(answer["workers"])},
        "pijobs_workers": {(): answer["load"]["workers"]},
        "pijobs_workers_busy": {(): answer["load"]["busy"]},
        "pijobs_workers_needed": {(): answer["load"]["needed"]},
        "pijobs_backlog_seconds": {} if answer["load"]["backlog"] is None else {(): answer["load"]["backlog"]},
        "pijobs_bypassed": {(("group", shown_value(row["group"] or "")),): 1.0 for row in answer["bypasses"]},
        "pijobs_worker_seen_seconds": {} if seen is None else {(): seen},
    }


def _troubled_first(groups: Iterable[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """At most :data:`MOST_SERIES` groups, groups in trouble first."""
    return heapq.nsmallest(
        MOST_SERIES, groups, key=lambda row: (-BREAKERS.index(row["breaker"]), not row["paused"], -row["waiting"])
    )


def _of_groups(groups: Sequence[Mapping[str, Any]]) -> dict[str, Rows]:
    instances: Rows = {}
    paused: Rows = {}
    breakers: Rows = {}
    for row in groups:
        label = ("group", shown_value(row["name"]))
        if (label,) in paused:
            continue
        paused[label,] = float(row["paused"])
        for state in ("running", "waiting"):
            instances[label, ("state", state)] = row[state]
        for state in BREAKERS:
            breakers[label, ("state", state)] = float(row["breaker"] == state)
    return {"pijobs_group_instances": instances, "pijobs_group_paused": paused, "pijobs_breaker": breakers}


def _zeros(queue: Queue) -> dict[str, Rows]:
    """Known series with the value 0: Prometheus sees no increase in a series that starts at 1."""
    return {
        "pijobs_leases_lost_total": {(): 0.0},
        "pijobs_security_events_total": {(("kind", kind),): 0.0 for kind in SECURITY_EVENTS},
        "pijobs_totals_left_out_total": {(): 0.0},
        "pijobs_signs_of_life_total": {(("result", result),): 0.0 for result in RESULTS},
        "pijobs_fallbacks_total": {(("job", job), ("way", way)): 0.0 for job in queue.registry for way in WAYS},
        # Destinations are unknown here. The alerts watch the sum over all of them, which starts here.
        "pijobs_failed_total": {
            (("job", job), ("group", OTHER), ("state", state)): 0.0 for job in queue.registry for state in FAILED_STATES
        },
    }


def _counted(totals: Mapping[str, float], zeros: Mapping[str, Rows]) -> Iterator[Metric]:
    found: defaultdict[str, Rows] = defaultdict(dict)
    for total, value in totals.items():
        name, labels = series_of(total)
        found[name][labels] = value
    for family in FAMILIES:
        if family.kind == "histogram":
            yield _histogram(family.name, found[family.name], found[f"{family.name}_sum"])
        elif family.kind == "counter":
            yield _counter(family.name, family.help, {**zeros.get(family.name, {}), **found[family.name]})
    for name in sorted(found):
        if name not in BY_NAME and name.endswith("_total"):
            yield _counter(name, MEASURED, found[name])


def _gauge(name: str, rows: Rows) -> Metric:
    metric = Metric(name, BY_NAME[name].help, "gauge")
    for labels, value in rows.items():
        metric.add_sample(name, dict(labels), value)
    return metric


def _counter(name: str, about: str, rows: Rows) -> Metric:
    metric = Metric(name.removesuffix("_total"), about, "counter")
    for labels, value in sorted(rows.items()):
        metric.add_sample(name, dict(labels), value)
    return metric


def _histogram(name: str, buckets: Rows, sums: Rows) -> Metric:
    metric = Metric(name, BY_NAME[name].help, "histogram")
    series: defaultdict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, count in buckets.items():
        series[labels[:-1]].append((float(labels[-1][1]), count))
    for labels, counts in sorted(series.items()):
        # A process of another release may have counted with other bounds.
        for bound in (*BOUNDS, math.inf):
            below = sum(count for upper, count in counts if upper <= bound)
            le = "+Inf" if bound == math.inf else repr(bound)
            metric.add_sample(f"{name}_bucket", {**dict(labels), "le": le}, below)
        metric.add_sample(f"{name}_count", dict(labels), sum(count for _, count in counts))
        metric.add_sample(f"{name}_sum", dict(labels), sums.get(labels, 0.0))
    return metric
