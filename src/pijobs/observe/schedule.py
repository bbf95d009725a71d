"""What happens at certain times, when it comes next, and what became of its last run."""

from __future__ import annotations

import inspect

from pijobs.base import schedules
from pijobs.errors import InstanceNotFound
from pijobs.jobs import Job
from pijobs.plugins.hookspecs import Scheduled
from pijobs.request.queue import Queue, periodic_id
from pijobs.storage.contract import Storage

#: How far ahead the next due time is looked for (ms).
_AHEAD = 366 * 24 * 60 * schedules.MINUTE


def scheduled(queue: Queue) -> list[Scheduled]:
    """The periodic jobs, and what plugins have beside them.

    :raises StorageUnavailable: when the storage does not answer.
    """
    storage = queue.places.storage
    rows = [_row(job, storage) for job in queue.registry.values() if job.schedule is not None]
    for _, given in queue.plugins.call("list_schedules", queue=queue):
        rows += given
    return rows


def _row(job: Job, storage: Storage) -> Scheduled:
    assert job.schedule is not None
    now = storage.now() // schedules.MINUTE * schedules.MINUTE + schedules.MINUTE
    comes = schedules.first(job.schedule, job.timezone, now, now + _AHEAD)
    last = storage.last_periodic(job.name)
    # What huey's crontab has for a docstring, pijobs.crontab sets; a function of somebody else may have a long one.
    when = (inspect.getdoc(job.schedule) or "").partition("\n")[0][:80]
    instance, state, reason = "", "", ""
    if last is not None:
        try:
            record = storage.get(periodic_id(job.name, last))
            instance, state, reason = record.id, record.state.value, record.reason or ""
        except InstanceNotFound:  # its record is not kept any more
            pass
    return Scheduled(job.name, when, comes, last, job.timezone, instance, state, reason, job.missed)
