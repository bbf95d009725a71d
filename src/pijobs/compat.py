"""The spellings of huey and Celery, for applications that move here step by step: their decorators and calls stay, the
jobs are ours. *From huey* and *From Celery* in the docs tell what is different."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from pijobs.decorator import JobFunction
from pijobs.jobs import RetryPolicy, State
from pijobs.request.calls import Handle

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: Seconds that a result is kept.
RESULTS = 24 * 3600.0


class TaskFailed(Exception):
    """the task of a result ended without one"""


@dataclass(frozen=True)
class Result:
    """What huey gives for a call."""

    handle: Handle

    @property
    def id(self) -> str:
        return self.handle.id

    def get(self, blocking: bool = False, timeout: float | None = None) -> Any:
        """What the task returned; None if it has not ended.

        :param blocking: wait for its end, for ``timeout`` seconds at most, or for an hour.
        :raises TaskFailed: it ended in another way.
        """
        handle = self.handle.wait((timeout or 3600.0) if blocking else 0)
        if handle.state is State.DONE:
            return handle.result()
        if handle.state in (State.DEAD, State.EXPIRED, State.CANCELLED):
            raise TaskFailed(f"task {handle.id} is {handle.state}: {handle.reason}")
        return None

    __call__ = get


class HueyTask(Generic[P, R_co]):
    """Stands for a job, and enqueues it when it is called.

    :ivar job: the job itself.
    """

    def __init__(self, job: JobFunction[P, R_co]) -> None:
        self.job = self.__pijobs_job__ = job

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        return Result(self.job.enqueue(*args, **kwargs))

    def call_local(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run it here."""
        return self.job(*args, **kwargs)

    def schedule(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        eta: dt.datetime | None = None,
        delay: float | None = None,
    ) -> Result:
        """Enqueue it for later.

        :param eta: without a zone in that of this process, as huey takes it.
        :param delay: seconds.
        """
        given: Any = self.job.options(eta=None if eta is None else eta.astimezone(), delay=delay)
        return Result(given.enqueue(*args, **(kwargs or {})))


class HueyTasks:
    """In the place of ``RedisHuey("shop")``: ``huey = HueyTasks("shop")``.

    :param name: stands in front of the names of its jobs.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def task(
        self,
        retries: int = 0,
        retry_delay: float = 0,
        priority: int | None = None,
        name: str | None = None,
        expires: float | None = None,
        **job: Any,
    ) -> Callable[[Callable[P, R]], HueyTask[P, R]]:
        """huey's decorator; further options are those of :class:`pijobs.Job`."""
        retry = RetryPolicy(max_attempts=retries + 1, delay=retry_delay, backoff=1, jitter=0)
        options = {"retry": retry, "priority": priority or 0, "expires": expires, "keep_result": RESULTS, **job}
        return lambda function: HueyTask(JobFunction(f"{self.name}.{name or function.__name__}", function, **options))

    def periodic_task(
        self, validate_datetime: Callable[[dt.datetime], bool], retries: int = 0, retry_delay: float = 0, **job: Any
    ) -> Callable[[Callable[[], R]], HueyTask[[], R]]:
        """The same of a task that runs by the clock, in UTC unless ``timezone`` says otherwise."""
        return self.task(retries, retry_delay, schedule=validate_datetime, **job)


class CeleryTask(JobFunction[P, R_co]):
    """A job with Celery's calls."""

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        return self.enqueue(*args, **kwargs)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        countdown: float | None = None,
        eta: dt.datetime | None = None,
        expires: float | None = None,
    ) -> Handle:
        """:param countdown: seconds, as ``expires``."""
        given: Any = self.options(delay=countdown, eta=eta, expires=expires)
        handle: Handle = given.enqueue(*args, **(kwargs or {}))
        return handle


class CeleryTasks:
    """In the place of ``Celery("shop", broker=…)``: ``celery = CeleryTasks("shop")``.

    :param name: stands in front of the names of its jobs.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def task(
        self,
        name: str | None = None,
        max_retries: int = 3,
        default_retry_delay: float = 180,
        autoretry_for: tuple[type[Exception], ...] = (),
        ignore_result: bool = False,
        **job: Any,
    ) -> Callable[[Callable[P, R]], CeleryTask[P, R]]:
        """Celery's decorator: only what ``autoretry_for`` names, and ``raise RetryJob(…)``, is tried again. Further
        options are those of :class:`pijobs.Job`."""
        retry = RetryPolicy(max_attempts=max_retries + 1, delay=default_retry_delay, backoff=1, retry_on=autoretry_for)
        options = {"retry": retry, "keep_result": None if ignore_result else RESULTS, **job}
        return lambda function: CeleryTask(f"{self.name}.{name or function.__name__}", function, **options)
