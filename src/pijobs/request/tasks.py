"""The jobs as huey tasks: :attr:`pijobs.HueyQueue.huey`, in server and worker.

Each job is a task under its name and the module of its function; periodic jobs are in huey's periodic registry. Calling
a task enqueues its job. Features that pijobs has in another way (results, revocation, locks, pipelines) are refused
with a message that names the alternative.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import huey
from huey import signals
from huey.api import PeriodicTask, Task

from pijobs.base import clock
from pijobs.base.functions import layers
from pijobs.jobs import Job
from pijobs.request.queue import Handle, Queue

#: Names of huey's methods, their feature, and the alternative.
UNSUPPORTED: tuple[tuple[str, str, str], ...] = (
    (
        "result all_results result_count put put_result put_if_empty get get_raw",
        "results",
        "a job stores its results itself; 'pijobs jobs show ID' tells how it ended",
    ),
    (
        "revoke revoke_all revoke_by_id restore restore_all restore_by_id is_revoked",
        "revocation",
        "'pijobs jobs cancel ID' cancels what waits",
    ),
    ("lock_task is_locked flush_locks", "locks", "Job(limits=…) and enqueue(key=…) bound what runs and waits"),
    ("rate_limit", "rate limits", "Job(group=…, limits=Limits(rate=…)) holds over all workers"),
    (
        "pending pending_count scheduled scheduled_count __len__",
        "lists of messages",
        "'pijobs status' and 'pijobs jobs list' tell what waits",
    ),
    ("flush", "emptying the queue", "'pijobs jobs purge' and 'pijobs jobs cancel' remove instances"),
    ("add_schedule", "scheduling of messages", "enqueue(delay=…) or enqueue(eta=…)"),
    (
        "task periodic_task context_task",
        "tasks that are registered here",
        "a plugin's register_jobs gives Job objects, periodic ones with schedule=crontab(…)",
    ),
    ("serialize_task deserialize_task", "pickled messages", "the queue encrypts arguments without pickle"),
)


class NoStorage:
    """The storage that huey sees. It uses only these two names."""

    #: ``dequeue`` waits itself, so huey's worker must not sleep between turns.
    blocking = True

    def close(self) -> None:
        """huey calls it before it forks. Our storages handle forks themselves."""


class JobHuey(huey.RedisHuey):  # type: ignore[misc]
    """huey with the jobs of a queue as its tasks.

    It derives from :class:`huey.RedisHuey` because programs written for privacyIDEA's queue class check for it.
    Signals, ``pre_execute``, ``post_execute``, ``on_startup`` and ``on_shutdown`` are huey's own; the worker calls
    them.
    """

    def __init__(self, queue: Queue) -> None:
        immediate = queue.mode == "immediate"
        super().__init__(queue.settings.name, results=False, store_none=False, immediate=immediate)
        self.queue = queue
        self._classes: dict[str, type[Task]] = {}
        for job in queue.registry.values():
            self.add(job)

    def create_storage(self) -> NoStorage:
        return NoStorage()

    def _emit(self, signal: str, task: Task, *args: Any, **kwargs: Any) -> None:
        receivers = self._signal.receivers
        if signal in receivers or receivers["any"]:  # rarely
            super()._emit(signal, task, *args, **kwargs)

    def add(self, job: Job) -> None:
        """Register a job as a task."""
        facts: dict[str, Any] = {
            "__module__": _module_of(job.function),
            "__doc__": job.function.__doc__,
            "context": False,
        }
        if (schedule := job.schedule) is not None:
            facts["validate_datetime"] = lambda task, timestamp: schedule(timestamp)
        kind = type(job.name, (Task if schedule is None else PeriodicTask,), facts)
        self._registry.register(kind)
        self._classes[job.name] = kind

    def take_over(self, other: JobHuey) -> None:
        """Call the hooks and receivers of another one."""
        for name in ("_signal", "_pre_execute", "_post_execute", "_startup", "_shutdown"):
            setattr(self, name, getattr(other, name))

    def task_of(self, name: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, **more: Any) -> Task:
        """A task of a job."""
        # Do not use ``s()`` of a wrapper: it removes names such as "expires" from the job's arguments.
        return self._classes[name](args, kwargs, **more)

    def enqueue(self, task: Task) -> Handle:
        """Enqueue the job of a task, as :meth:`pijobs.request.queue.Queue.enqueue` does.

        :raises NotImplementedError: for pipelines, groups and chords.
        """
        chained = getattr(task, "on_complete", None) or getattr(task, "on_error", None)
        if not isinstance(task, Task) or chained or task.chord_config is not None:
            raise NotImplementedError(
                "pijobs does not support pipelines, groups and chords of huey: a job enqueues the next one itself"
            )
        eta = task.eta.replace(tzinfo=dt.timezone.utc) if isinstance(task.eta, dt.datetime) else None
        handle = self.queue.enqueue(
            type(task).__name__, task.args, task.kwargs, eta=eta, expires=_seconds(task.expires), priority=task.priority
        )
        task.id = handle.id
        return handle

    def enqueued(self, name: str, instance_id: str) -> None:
        """Send huey's signal for a stored instance. Its arguments are encrypted."""
        self._emit(signals.SIGNAL_ENQUEUED, self.task_of(name, id=instance_id))

    def delete(self, key: str) -> bool:
        """huey forgets a revocation after each run; there are none."""
        return False

    def read_schedule(self, timestamp: Any = None) -> list[Task]:
        """Returns nothing, because the storage promotes due instances."""
        return []

    def dequeue(self) -> Task | None:
        raise NotImplementedError("jobs are run by 'pijobs worker'")

    def __bool__(self) -> bool:
        return True


def _refusal(what: str, instead: str) -> Callable[..., Any]:
    def refuse(self: JobHuey, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"pijobs does not support {what} of huey: {instead}")

    return refuse


for _names, _what, _instead in UNSUPPORTED:
    for _name in _names.split():
        setattr(JobHuey, _name, _refusal(_what, _instead))


def _module_of(function: Any) -> str:
    modules = (getattr(one, "__module__", None) for one in layers(function))
    return next((module for module in modules if isinstance(module, str) and module != "functools"), "builtins")


def _seconds(expires: Any) -> float | None:
    """huey's ``expires``: seconds, a time span, or a moment (naive: local time)."""
    if isinstance(expires, dt.timedelta):
        return expires.total_seconds()
    if isinstance(expires, dt.datetime):
        return max(0.001, expires.timestamp() - clock.time())
    return None if expires is None else float(expires)
