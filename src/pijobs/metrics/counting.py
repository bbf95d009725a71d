"""The counts of one process since it last added them to the storage.

A process counts in memory, and adds its counts to the totals in the queue's storage: a worker with each sign of life, a
second after a failed attempt, and when it ends; a server process with the first enqueue that succeeds after a call used
a fallback.
``/metrics`` shows the totals, so all processes show the same numbers. If a process is killed, its counts since then are
lost. If the answer of the storage is lost, these counts may be added twice.

Labels are names of jobs and of groups (destinations), and words of a short list; never a user or an address.
"""

from __future__ import annotations

import logging
import math
import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pijobs.base import clock, threads
from pijobs.base.redact import redact
from pijobs.errors import StorageUnavailable
from pijobs.metrics.definitions import BOUNDS, BY_NAME, Labels, Series, total_name

log = logging.getLogger(__name__)

#: How many groups of a job, or label values of a measured name, a process counts separately; others are OTHER.
MOST_SERIES = 100
OTHER = "other"
#: Longest value of a label in characters, so that the longest name of a total fits into the storage.
LONGEST_VALUE = 80
#: The most labels, besides the job, that a job may pass to :meth:`pijobs.context.JobContext.measure`.
MOST_LABELS = 3
#: Seconds that a process collects before it stores urgent counts: a fallback, a failed attempt.
FLUSH_AFTER = 1.0

_NAME = re.compile(r"[a-z][a-z0-9_]{0,58}[a-z0-9]")
_LABEL = re.compile(r"(?!(?:job|le)$)[a-z][a-z0-9_]{0,28}[a-z0-9]")

AddTotals = Callable[[Mapping[str, float]], None]


class _Histogram:
    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        if seconds < 0:  # a clock was set back
            seconds = 0.0
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def totals(self, name: str, labels: Labels) -> Iterator[tuple[str, float]]:
        for bound, count in zip((*BOUNDS, math.inf), self.counts, strict=True):
            if count:
                yield total_name(name, (*labels, ("le", f"{bound:g}"))), count
        if self.sum:
            yield total_name(f"{name}_sum", labels), self.sum


@dataclass(slots=True)
class _Work:
    """The attempts of one job for one group."""

    labels: Labels
    waited: _Histogram = field(default_factory=_Histogram)
    took: _Histogram = field(default_factory=_Histogram)
    since_enqueue: _Histogram = field(default_factory=_Histogram)
    outcomes: dict[str, int] = field(default_factory=dict)

    def totals(self) -> Iterator[tuple[str, float]]:
        yield from self.waited.totals("pijobs_time_to_start_seconds", self.labels)
        yield from self.took.totals("pijobs_run_seconds", self.labels)
        yield from self.since_enqueue.totals("pijobs_enqueue_to_done_seconds", self.labels)
        for outcome, number in self.outcomes.items():
            yield total_name("pijobs_attempts_total", (*self.labels, ("outcome", outcome))), number


class _Share:
    """The counts of one process."""

    def __init__(self) -> None:
        self.lock = threads.Lock()
        #: Counts that the storage did not accept.
        self.owed: dict[str, float] = {}
        self.flusher: threads.Thread | None = None
        #: Per job or measured name: the labels as given, and as shown.
        self.shown: dict[str, dict[Labels, Labels]] = {}
        self.begin()

    def begin(self) -> None:
        """Start to count from zero."""
        self.work: dict[tuple[str, str], _Work] = {}
        self.counters: dict[Series, float] = {}

    def labels(self, about: str, given: Labels) -> Labels:
        """The labels for people, limited in length and number. The first one is the job."""
        known = self.shown.setdefault(about, {})
        shown = known.get(given)
        if shown is None:
            if len(known) >= MOST_SERIES:
                return (*given[:1], *((name, OTHER) for name, _ in given[1:]))
            shown = known[given] = tuple((name, shown_value(value)) for name, value in given)
        return shown

    def add(self, name: str, labels: Labels, value: float = 1) -> None:
        self.counters[name, labels] = self.counters.get((name, labels), 0) + value

    def take(self) -> dict[str, float]:
        """All counts that the storage does not have, by the names of the totals."""
        with self.lock:
            work, counters, taken = self.work.values(), self.counters.items(), self.owed
            self.owed = {}
            self.begin()
        fresh = [(total_name(name, labels), value) for (name, labels), value in counters]
        for one in work:
            fresh += one.totals()
        for name, value in fresh:
            taken[name] = taken.get(name, 0) + value
        return taken

    def owe(self, totals: Mapping[str, float]) -> None:
        with self.lock:
            for name, value in totals.items():
                self.owed[name] = self.owed.get(name, 0) + value


class Metrics:
    """Counts events of this process. It is thread-safe. A child process starts with zero."""

    def __init__(self) -> None:
        # Per process: a child does not have the parent's counts, which only the parent stores.
        self._shares: dict[int, _Share] = {}

    @property
    def _share(self) -> _Share:
        pid = os.getpid()
        return self._shares.get(pid) or self._shares.setdefault(pid, _Share())

    # -- counting ------------------------------------------------------------------------------------------------

    def attempt(
        self, job: str, group: str, outcome: str, *, waited: float, took: float, since_enqueue: float | None
    ) -> None:
        """Count an attempt.

        :param waited: seconds from due to start.
        :param since_enqueue: seconds from enqueue to the end, if it is done.
        """
        share = self._share
        with share.lock:
            work = share.work.get((job, group))
            if work is None:
                work = self._work(share, job, group)
            work.waited.observe(waited)
            work.took.observe(took)
            if since_enqueue is not None:
                work.since_enqueue.observe(since_enqueue)
            work.outcomes[outcome] = work.outcomes.get(outcome, 0) + 1

    @staticmethod
    def _work(share: _Share, job: str, group: str) -> _Work:
        labels = share.labels(job, (("job", job), ("group", group)))
        if labels[1][1] == OTHER:
            group = OTHER
        return share.work.setdefault((job, group), _Work(labels))

    def failed(self, job: str, group: str, state: str) -> None:
        """Count an instance that ended dead or expired."""
        share = self._share
        with share.lock:
            labels = share.labels(job, (("job", job), ("group", group)))
            share.add("pijobs_failed_total", (*labels, ("state", state)))

    def crashed(self, job: str, group: str) -> None:
        """Count an attempt whose worker died or gave no sign of life."""
        share = self._share
        with share.lock:
            share.add("pijobs_crashes_total", share.labels(job, (("job", job), ("group", group))))

    def lease_lost(self) -> None:
        """Count an outcome that came after the lease."""
        share = self._share
        with share.lock:
            share.add("pijobs_leases_lost_total", ())

    def security_event(self, kind: str) -> None:
        """Count one of :data:`pijobs.metrics.definitions.SECURITY_EVENTS`."""
        share = self._share
        with share.lock:
            share.add("pijobs_security_events_total", (("kind", kind),))

    def sign_of_life(self, result: str) -> None:
        """Count a sign of life. :param result: one of :data:`pijobs.metrics.definitions.RESULTS`."""
        share = self._share
        with share.lock:
            share.add("pijobs_signs_of_life_total", (("result", result),))

    def fallback(self, job: str, way: str) -> None:
        """Count a call that the storage did not store. :param way: one of :data:`pijobs.metrics.definitions.WAYS`."""
        share = self._share
        with share.lock:
            share.add("pijobs_fallbacks_total", (("job", job), ("way", way)))

    def measure(self, job: str, name: str, value: float, labels: Mapping[str, object]) -> None:
        """See :meth:`pijobs.context.JobContext.measure`. Raises nothing, because the job may have had its effect."""
        try:
            given = (("job", job), *((label, str(labels[label])) for label in sorted(labels)))
            share, about = self._share, f"{job} {name}"
            # Names that were counted before need no check.
            if fault := _fault(value) or (given not in share.shown.get(about, ()) and _fault_of_names(name, labels)):
                log.error("job %s measures %.80r, which is not counted: %s", job, name, fault)
                return
            with share.lock:
                share.add(f"pijobs_{name}_total", share.labels(about, given), value)
        except Exception as error:  # a value of the plugin's own type that can't be converted
            log.error("job %s measures %.80r, which is not counted: %s", job, name, type(error).__name__)

    # -- telling -------------------------------------------------------------------------------------------------

    def flush(self, add_totals: AddTotals) -> None:
        """Add what was counted to the storage's totals.

        :param add_totals: :meth:`pijobs.storage.contract.Storage.add_totals`; its exceptions pass through, and
            the counts are kept for the next time.
        """
        share = self._share
        totals = share.take()
        if not totals:
            return
        try:
            add_totals(totals)
        except BaseException:
            share.owe(totals)
            raise

    def flush_soon(self, add_totals: AddTotals) -> None:
        """For a worker: the same after a moment, in a separate thread. If the storage does not answer, the
        counts are kept for the next time."""
        share = self._share
        with share.lock:
            if share.flusher is not None:
                return
            thread = share.flusher = threads.Thread(
                target=self._flush_later, args=(share, add_totals), name="pijobs-metrics", daemon=True
            )
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends
            share.flusher = None

    def _flush_later(self, share: _Share, add_totals: AddTotals) -> None:
        clock.sleep(FLUSH_AFTER)
        # Before the flush: later counts request another flush.
        share.flusher = None
        try:
            self.flush(add_totals)
        except StorageUnavailable as error:
            log.debug("the counts are kept until the storage answers: %s", error)
        except Exception:
            log.exception("the counts could not be stored")


def _fault(value: float) -> str | None:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
        return "expected a number above 0"
    return None


def _fault_of_names(name: str, labels: Mapping[str, object]) -> str | None:
    if not _NAME.fullmatch(name) or name.endswith("_total") or f"pijobs_{name}_total" in BY_NAME:
        return "expected a name such as 'smtp_replies', without '_total' and none of pijobs' own"
    if len(labels) > MOST_LABELS or not all(_LABEL.fullmatch(label) for label in labels):
        return f"expected at most {MOST_LABELS} labels with names such as 'server', not 'job' or 'le'"
    return None


def shown_value(text: str) -> str:
    """The value of a label, redacted and cut for people."""
    # Redacted like a log line, because a plugin's function may put personal data into the name of a group.
    shown = redact("".join(letter if letter.isprintable() else "?" for letter in text))
    return shown if len(shown) <= LONGEST_VALUE else shown[: LONGEST_VALUE - 1] + "…"
