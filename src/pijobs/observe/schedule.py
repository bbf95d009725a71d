"""Periodic jobs and other schedules: the next time, and the outcome of the last run."""

from __future__ import annotations

import inspect

from msgspec.structs import replace

from pijobs.base import schedules
from pijobs.errors import InstanceNotFound, StateConflict, UnknownJob
from pijobs.jobs import Job, State
from pijobs.plugins.hookspecs import Scheduled
from pijobs.request.calls import periodic_id
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage
from pijobs.storage.values import TAKEN_AHEAD

#: How far ahead to look for the next due time (ms).
_AHEAD = 366 * 24 * 60 * schedules.MINUTE
#: How long the record of a skipped time is kept after it (ms), because a worker may be late.
_AFTERWARDS = 7 * 24 * 60 * schedules.MINUTE


def scheduled(queue: Queue) -> list[Scheduled]:
    """The periodic jobs, and the schedules of plugins.

    :raises StorageUnavailable: when the storage does not answer.
    """
    storage = queue.places.storage
    rows = [_row(job, storage) for job in queue.registry.values() if job.schedule is not None]
    for _, given in queue.plugins.call("list_schedules", queue=queue):
        rows += given
    return rows


def run_now(queue: Queue, name: str) -> str:
    """Enqueue a periodic job once, in addition to its schedule. :returns: the id of the instance.

    :raises UnknownJob: if no periodic job has this name.
    """
    return queue.enqueue(_periodic(queue, name).name, (), {}).id


def skip(queue: Queue, name: str, *, by: str) -> int:
    """Skip the next time of a periodic job; returns that time in ms. A cancelled instance takes its place.

    :raises UnknownJob: if no periodic job has this name.
    :raises StateConflict: when it does not come within a year, or when its record would not be kept until then.
    :raises StorageUnavailable: when the storage does not answer.
    """
    job, storage = _periodic(queue, name), queue.places.storage
    due, _last, skips = _next(job, storage)
    if due is None:
        raise StateConflict(f"{name} does not come within a year")
    if len(skips) >= (most := queue.settings.keep_finished[1]):
        kept = f"{most} records of finished instances are kept per job (PI_JOB_QUEUE_KEEP_FINISHED)"
        raise StateConflict(f"{len(skips)} times of {name} are skipped, and no more can be: {kept}, and each is one")
    # No worker takes it before its time, and its record stays until then, so that it is not enqueued anew.
    new = replace(queue.periodic(job, due), keep=due - storage.now() + _AFTERWARDS)
    storage.enqueue(new, timeout=queue.settings.enqueue_timeout)
    storage.cancel(new.id, reason=f"skipped by {by}")
    return due


def _periodic(queue: Queue, name: str) -> Job:
    job = queue.registry.get(name)
    if job is None or job.schedule is None:
        raise UnknownJob(f"there is no periodic job {name!r} here; 'pijobs schedule' lists them")
    return job


def _next(job: Job, storage: Storage) -> tuple[int | None, int | None, tuple[int, ...]]:
    """The next time, the time of the last run, and the skipped times before the next one."""
    assert job.schedule is not None
    now, last = storage.now(), storage.last_periodic(job.name)
    taken = last if last is not None and last <= now + TAKEN_AHEAD else 0
    begin = max(now, taken) // schedules.MINUTE * schedules.MINUTE + schedules.MINUTE
    end, skips = begin + _AHEAD, list[int]()
    while (due := schedules.first(job.schedule, job.timezone, begin, end)) and is_skipped(storage, job, due):
        skips.append(due)
        begin = due + schedules.MINUTE
    return due, last, tuple(skips)


def is_skipped(storage: Storage, job: Job, due: int) -> bool:
    """Whether somebody skipped this time (ms)."""
    try:
        return storage.get(periodic_id(job.name, due)).state is State.CANCELLED
    except InstanceNotFound:
        return False


def _row(job: Job, storage: Storage) -> Scheduled:
    comes, last, skips = _next(job, storage)
    # pijobs.crontab sets the docstring of huey's crontab; another function may have a long one.
    when = (inspect.getdoc(job.schedule) or "").partition("\n")[0][:80]
    instance, state, reason = "", "", ""
    if last is not None:
        try:
            record = storage.get(periodic_id(job.name, last))
            instance, state, reason = record.id, record.state.value, record.reason or ""
        except InstanceNotFound:  # its record was removed
            pass
    return Scheduled(job.name, when, comes, last, job.timezone, instance, state, reason, job.missed, skips)
