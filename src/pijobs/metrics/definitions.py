"""All metrics, and the names under which the storage keeps their totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: Upper bounds of the histograms (seconds); a change would break existing graphs.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
_SEPARATOR = "\x1f"

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


FAMILIES = (
    Family("pijobs_storage_up", "gauge", "1 if the storage of the queue answers, else 0."),
    Family("pijobs_check_failing", "gauge", "1 for a check of /healthz that fails, else 0.", ("check", "severity")),
    Family("pijobs_instances", "gauge", "Job instances in storage and spool.", ("job", "state")),
    Family("pijobs_oldest_due_seconds", "gauge", "Age of the oldest due instance.", ("job",)),
    Family("pijobs_spool_instances", "gauge", "Job instances in the spool of this machine.", ("job", "state")),
    Family("pijobs_spool_oldest_due_seconds", "gauge", "Age of the oldest due instance in the spool.", ("job",)),
    Family("pijobs_waiting_bound", "gauge", "How many instances of a job may wait.", ("job",)),
    Family("pijobs_paused", "gauge", "Whether the whole queue is paused."),
    Family("pijobs_housekeeping_backlog", "gauge", "Instances that should be expired or removed."),
    Family("pijobs_totals", "gauge", "Series that the queue keeps, at most 10,000."),
    Family("pijobs_worker_processes", "gauge", "Worker processes with a sign of life within their lease."),
    Family("pijobs_workers", "gauge", "Workers (threads or children) that lease jobs."),
    Family("pijobs_workers_busy", "gauge", "Busy workers, averaged over about a minute."),
    Family("pijobs_workers_needed", "gauge", "Workers needed to be busy for four fifths of the time."),
    Family("pijobs_backlog_seconds", "gauge", "Seconds that the present workers need for all due jobs."),
    Family("pijobs_bypassed", "gauge", "1 for a group whose jobs run in the request (empty: all groups).", ("group",)),
    Family("pijobs_worker_seen_seconds", "gauge", "Seconds since the last sign of life of any worker."),
    Family("pijobs_group_instances", "gauge", "Instances of a group, running or waiting.", ("group", "state")),
    Family("pijobs_group_paused", "gauge", "Whether a group is paused.", ("group",)),
    Family("pijobs_breaker", "gauge", "1 for the present state of a group's circuit breaker.", ("group", "state")),
    Family("pijobs_time_to_start_seconds", "histogram", "From due time to the start of an attempt.", ("job", "group")),
    Family("pijobs_run_seconds", "histogram", "Run time of an attempt, with any outcome.", ("job", "group")),
    Family("pijobs_enqueue_to_done_seconds", "histogram", "From enqueue to done, over all attempts.", ("job", "group")),
    Family("pijobs_attempts_total", "counter", "Attempts, by the resulting state.", ("job", "group", "outcome")),
    Family("pijobs_failed_total", "counter", "Instances that ended dead or expired.", ("job", "group", "state")),
    Family("pijobs_crashes_total", "counter", "Attempts whose worker died or gave no sign of life.", ("job", "group")),
    Family("pijobs_leases_lost_total", "counter", "Attempts that ended after their lease."),
    Family("pijobs_security_events_total", "counter", "Done instances that came again, and damaged ones.", ("kind",)),
    Family("pijobs_totals_left_out_total", "counter", "Series left out, because the queue keeps too many."),
    Family("pijobs_signs_of_life_total", "counter", "Signs of life of worker processes.", ("result",)),
    Family("pijobs_fallbacks_total", "counter", "Calls that the storage did not store.", ("job", "way")),
)  # fmt: skip
BY_NAME: Mapping[str, Family] = {family.name: family for family in FAMILIES}

#: Labels with a fixed list of values; their series begin at 0.
RESULTS = ("answered", "unanswered", "taken_for_dead")
#: A done instance came again; an instance can't be decoded, or does not agree with its envelope.
SECURITY_EVENTS = ("replayed", "damaged")
FAILED_STATES = ("dead", "expired")
WAYS = ("spool", "direct", "without_worker", "full", "dropped", "refused", "bypass")


def total_name(name: str, labels: Labels) -> str:
    """The name under which the storage keeps a series. Each bucket of a histogram has one, and is not cumulative."""
    return _SEPARATOR.join([name, *(f"{label}={value}" for label, value in labels)])


def series_of(total: str) -> Series:
    """The inverse of :func:`total_name`."""
    name, *labels = total.split(_SEPARATOR)
    pairs = (label.partition("=") for label in labels)
    return name, tuple((label, value) for label, _, value in pairs)
