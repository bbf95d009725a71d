"""The decorator ``@job`` makes a function a job. Type checkers know its arguments::

    @job("report.build", expires=3600)
    def build(ctx: JobContext, customer: str) -> None: ...

    build.enqueue("acme")                      # a worker runs it
    build.options(delay=60).enqueue("acme")    # in a minute
    build("acme")                              # runs it here, as a function
    queue.enqueue_many(build.call(customer) for customer in customers)

The decorated function is a :class:`~pijobs.jobs.Job`, so a hook can return it.
"""

from __future__ import annotations

import datetime as dt
import inspect
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, Protocol, TypeVar, cast, overload

from pijobs.base.functions import place_of
from pijobs.context import JobContext
from pijobs.errors import ConfigurationError, UnknownJob
from pijobs.jobs import Job

if TYPE_CHECKING:
    from pijobs.request.calls import JobCall
    from pijobs.request.queue import Handle, Queue
    from pijobs.storage.values import OnConflict

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class JobFunction(Job, Generic[P, R_co]):
    """A function that is a job. It has the attributes of :class:`~pijobs.jobs.Job`. :func:`job` creates it."""

    __name__: str

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("__module__", "__name__", "__qualname__")
        kept = {name: getattr(self.function, name, self.name) for name in names}
        vars(self).update(kept, __doc__=inspect.getdoc(self.function), __wrapped__=self.function)

    @overload
    def __call__(self, ctx: JobContext, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> R_co:
        """Run the function in this process. Result and exceptions go to the caller.

        If the function takes a :class:`~pijobs.context.JobContext`, it gets a new one, with the settings of the
        current app, or the defaults if there is no app. The caller can pass another one as the first argument.
        """
        # Imported at first use, because a process that calls no job does not need it.
        from pijobs.plugins.registration import takes_context

        if takes_context(self.function) and not (args and isinstance(args[0], JobContext)):
            args = (self._context(args, kwargs), *args)
        return cast(R_co, self.function(*args, **kwargs))

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Enqueue the job in the queue of the current app; see :meth:`pijobs.request.queue.Queue.enqueue`.

        :raises ConfigurationError: if there is no app, or the app has no queue.
        """
        return self.options().enqueue(*args, **kwargs)

    def enqueue_on_commit(self, session: object, /, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Enqueue the job when the transaction of a session is committed, and not if it is rolled back; see
        :meth:`pijobs.request.queue.Queue.enqueue_on_commit`."""
        return self.options().enqueue_on_commit(session, *args, **kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> JobCall:
        """Describe a call, for :meth:`pijobs.request.queue.Queue.enqueue_many`."""
        return self.options().call(*args, **kwargs)

    def options(
        self,
        *,
        delay: float | None = None,
        eta: dt.datetime | float | None = None,
        expires: float | None = None,
        priority: int | None = None,
        key: str | None = None,
        on_conflict: OnConflict = "replace",
        queue: Queue | None = None,
    ) -> OneCall[P]:
        """Set options for one call; see :meth:`pijobs.request.queue.Queue.enqueue`.

        :param queue: the queue to use, instead of that of the current app.
        """
        given = {"delay": delay, "eta": eta, "expires": expires, "priority": priority, "key": key}
        told = {name: value for name, value in given.items() if value is not None}
        return OneCall(self, told if on_conflict == "replace" else {**told, "on_conflict": on_conflict}, queue)

    def _context(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobContext:
        from pijobs.execution.contexts import context_here
        from pijobs.metrics.counting import Metrics
        from pijobs.payload.codec import Call
        from pijobs.settings import CORE_SETTINGS, validate

        queue = _present_queue()
        settings = validate({}, CORE_SETTINGS) if queue is None else queue.settings
        metrics = Metrics() if queue is None else queue.metrics
        call = Call(args, kwargs)
        return context_here(self, secrets.token_hex(16), call, settings, metrics, self.expires, group="")


@dataclass(frozen=True)
class OneCall(Generic[P]):
    """A job with options for one call."""

    job: JobFunction[P, Any]
    given: dict[str, Any]
    queue: Queue | None

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """As :meth:`JobFunction.enqueue`."""
        return self._found().enqueue(self.job.name, args, kwargs, **self.given)

    def enqueue_on_commit(self, session: object, /, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """As :meth:`JobFunction.enqueue_on_commit`."""
        return self._found().enqueue_on_commit(session, self.call(*args, **kwargs))

    def _found(self) -> Queue:
        if (queue := self.queue or _present_queue()) is None:
            name = self.job.__name__
            raise ConfigurationError(
                f"job {self.job.name!r}: expected an app whose queue takes it, found no app context; "
                f"call it within 'with app.app_context():', or name the queue: {name}.options(queue=queue).enqueue(…)"
            )
        if self.job.name not in queue.registry:
            self._refuse(queue)
        return queue

    def call(self, *args: P.args, **kwargs: P.kwargs) -> JobCall:
        """As :meth:`JobFunction.call`, for the queue that gets the call."""
        from pijobs.request.calls import JobCall

        return JobCall(self.job.name, args, kwargs, **self.given)

    def _refuse(self, queue: Queue) -> NoReturn:
        module = self.job.__module__
        told = f"return it from register_jobs of its plugin, or add {module!r} to PI_JOB_QUEUE_PLUGINS"
        for plugin in queue.plugins.failed:
            if f"{module}.".startswith(f"{plugin.module.partition(':')[0]}."):
                told = f"its plugin failed: {plugin.error}"
        raise UnknownJob(f"job {self.job.name!r} ({place_of(self.job.function)}) is not registered here; {told}")


class _Decorator(Protocol):
    @overload
    def __call__(self, function: Callable[Concatenate[JobContext, P], R], /) -> JobFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> JobFunction[P, R]: ...


def _with_the_options_of(
    made: Callable[Concatenate[str, Callable[..., Any], Q], Job],
) -> Callable[[Callable[..., Any]], Callable[Concatenate[str, Q], _Decorator]]:
    """For type checkers: the decorator takes the parameters of ``Job`` except the function."""
    return lambda decorator: decorator


@_with_the_options_of(Job)
def job(name: str, **options: Any) -> Any:
    """Make a function a job: ``@job("sms.send", expires=120)``.

    :param name: the name of the job. The options are those of :class:`~pijobs.jobs.Job`.
    :raises ValueError: if the function can't be a job, such as a generator, or an option is invalid.
    """
    if not isinstance(name, str):
        shown = getattr(name, "__name__", repr(name))
        raise TypeError(f'expected @job("sms.send") above {shown}, with the name of the job; found no name')
    return lambda function: JobFunction(name, function, **options)


def _present_queue() -> Queue | None:
    """The queue of the current app; None if there is no app.

    :raises ConfigurationError: for an app without a queue.
    """
    import flask

    from pijobs.flask import current_queue

    return current_queue() if flask.has_app_context() else None
