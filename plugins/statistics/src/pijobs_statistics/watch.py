"""Counts the ends of jobs in a worker process: name, result, group and minute; no argument, no user.

A journal keeps each end, and a thread hands it in, so that no job waits for a storage. Jobs of the statistics are not
counted, since they would count themselves forever.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pijobs import InstanceEvent, State, call_hook
from pijobs.base import threads
from pijobs.base.redact import describe
from pijobs.errors import QueueUnavailable
from pijobs.request.queue import Queue
from pijobs_statistics.jobs import JOURNAL
from pijobs_statistics.journal import Journal
from pijobs_statistics.record import JOB
from pijobs_statistics.values import Series, minute, series

log = logging.getLogger(__name__)

OWN = "statistics."
EVERY = 5.0  # seconds between two batches
MOST = 1000  # ends in one batch


class Watch:
    """Counts the ends of jobs in this process."""

    def __init__(self, queue: Queue) -> None:
        self.pid = os.getpid()
        self._queue = queue
        self._journal = Journal(journal_folder(queue))
        self._wake = threads.Event()
        self._stop = threads.Event()
        self._thread = threads.Thread(target=self._run, name="pijobs-statistics", daemon=True)
        self._thread.start()

    def ended(self, event: InstanceEvent) -> None:
        # An instance whose worker crashed is queued again: it has not ended.
        if event.name.startswith(OWN) or event.state == State.QUEUED:
            return
        # The same key for a repeated end, after a worker was killed.
        key = hashlib.sha256(f"{event.id} {event.attempt} {event.state}".encode()).hexdigest()[:40]
        line = series("jobs", {"job": event.name, "result": event.state, "group": event.group})
        for number, one in enumerate([line, *self._further(event)]):
            self._journal.append([f"{key}-{number}" if number else key, minute(), *one])
        if self._journal.lines >= MOST:
            self._wake.set()

    def _further(self, event: InstanceEvent) -> Iterator[Series]:
        """The series that other plugins count for this end."""
        for plugin, counted in call_hook(self._queue.settings, "count_end", queue=self._queue, event=event):
            try:
                yield from [series(name, tags) for name, tags in counted]
            except (TypeError, ValueError) as error:
                log.error("plugin %s: count_end: %s", plugin, describe(error))

    def stop(self) -> None:
        """Stop, and hand in the remaining lines."""
        self._stop.set()
        self._wake.set()
        self._thread.join(EVERY)
        self._hand_in()

    def _run(self) -> None:
        self._hand_in()  # lines of dead processes
        while not self._stop.is_set():
            self._wake.wait(EVERY)
            self._wake.clear()
            if not self._stop.is_set():
                self._hand_in()

    def _hand_in(self) -> None:
        try:
            self._journal.hand_in(self._enqueue)
        except Exception as error:
            log.warning("statistics: the ends of jobs are kept until they can be enqueued: %s", describe(error))

    def _enqueue(self, batch: str, lines: list[Any]) -> None:
        parts = [lines[begin : begin + MOST] for begin in range(0, len(lines), MOST)]
        for number, part in enumerate(parts):
            handle = self._queue.enqueue(JOB, (), {"batch": f"{batch}-{number}", "once": part})
            if handle.state is State.DEAD:  # the storage does not answer; it ran and failed in this process
                raise QueueUnavailable(handle.reason)


def journal_folder(queue: Queue) -> Path:
    """The folder of the workers' journals."""
    return Path(queue.settings[JOURNAL] or queue.settings.directory / "pijobs-statistics")
