"""Periodic jobs, exactly once per due time over all workers.

A due time is a minute that the job's ``crontab`` matches in the job's time zone. Every worker tries to store the newest
due time; the storage accepts each only once. Due times that passed while no worker ran are run once (``missed="once"``)
or skipped (``"skip"``). :mod:`pijobs.base.schedules` describes how a schedule is read.
"""

from __future__ import annotations

import datetime as dt
import logging

from pijobs.base import schedules
from pijobs.base.redact import describe
from pijobs.jobs import Job
from pijobs.observe.schedule import is_skipped
from pijobs.request.queue import Queue
from pijobs.storage.values import TAKEN_AHEAD

log = logging.getLogger(__name__)

_MINUTE = 60_000  # ms
#: How far back a missed due time is searched (minutes).
_LOOK_BACK = 366 * 24 * 60
#: How late (ms) a due time may be enqueued without counting as missed.
_LATE = 2 * _MINUTE


class Periodic:
    """The periodic jobs of one queue.

    :param since: ms since the epoch; due times before it are ignored. None: use the storage's record.
    """

    def __init__(self, queue: Queue, since: int | None = None) -> None:
        self._queue = queue
        self._jobs = [job for job in queue.registry.values() if job.schedule is not None]
        self._asked = None if since is None else since // _MINUTE

    def enqueue_due(self) -> None:
        """Enqueue due jobs. Cheap if the minute has not changed.

        :raises StorageUnavailable: the storage does not answer. No due time is missed.
        """
        storage = self._queue.storage
        if storage is None or not self._jobs:
            return
        now = storage.now()
        minute = now // _MINUTE
        if minute == self._asked:
            return
        # Do not search the same minutes again, or a yearly job would search a year of minutes each minute. After a
        # clock was set back, only the storage knows what was done.
        looked = self._asked * _MINUTE if self._asked is not None and self._asked < minute else None
        for job in self._jobs:
            last = storage.last_periodic(job.name)
            due = _guarded_due(job, last if looked is None else max(looked, last or 0), now)
            if due is not None and self._queue.enqueue_periodic(job, due):
                moment = dt.datetime.fromtimestamp(due / 1000, dt.timezone.utc)
                told = "skipped at" if is_skipped(storage, job, due) else "enqueued for"
                log.info("periodic job %s: %s %s", job.name, told, moment)
        self._asked = minute


def _guarded_due(job: Job, last: int | None, now: int) -> int | None:
    try:
        return newest_due(job, last, now)
    except Exception as error:  # one bad schedule must not stop the others
        log.error("periodic job %s: its schedule failed: %s", job.name, describe(error))
        return None


def newest_due(job: Job, last: int | None, now: int) -> int | None:
    """The newest due time after ``last`` that has come, or None.

    :param last: the last enqueued due time (ms); None: never, then only the present minute counts.
    :param now: ms since the epoch.
    """
    assert job.schedule is not None
    newest = now // _MINUTE * _MINUTE
    if last is not None and last > now + TAKEN_AHEAD:
        last = None
    oldest = newest if last is None else max(last + _MINUTE, newest - _LOOK_BACK * _MINUTE)
    if job.missed == "skip":
        oldest = max(oldest, newest - _LATE)
    return schedules.newest(job.schedule, job.timezone, oldest, newest)
