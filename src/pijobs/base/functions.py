"""Calls the function of a job, so that the job is done when it returns.

A coroutine function runs to its end in the event loop of the calling thread. A generator function runs nothing when it
is called, so registration refuses it; a plain function that returns an awaitable or a generator has failed.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import starmap
from types import GeneratorType
from typing import Any

from pijobs.base import threads
from pijobs.base.files import OURS
from pijobs.errors import FailJob

#: The event loop of each thread that ran a coroutine.
_local = threads.local()
#: Seconds for cancelling the tasks that a job left behind.
CANCEL_TIME = 5.0


def layers(function: Any) -> Iterator[Any]:
    """The function, and what it wraps: partial objects, decorated functions, and objects with ``__call__``."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        if not inspect.isroutine(function) and not inspect.isclass(function):
            yield getattr(type(function), "__call__", None)  # noqa: B004 - looked at, not asked for
        function = function.func if isinstance(function, functools.partial) else getattr(function, "__wrapped__", None)


def place_of(function: Any) -> str:
    """Where a function is defined, as ``file:line``; its module or type if that is unknown."""
    for one in layers(function):
        code = getattr(one, "__code__", None)
        if code is not None and not code.co_filename.startswith(OURS):
            return f"{code.co_filename}:{code.co_firstlineno}"
    return str(getattr(function, "__module__", None) or type(function).__name__)


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a call would only create a generator."""
    return any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in layers(function))


def is_coroutine(function: Callable[..., Any]) -> bool:
    """Whether a call creates a coroutine, which must be run."""
    return any(inspect.iscoroutinefunction(one) for one in layers(function))


def run(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, coroutine: bool) -> Any:
    """Call a function, and run what it returns if it is a coroutine function.

    :param coroutine: :func:`is_coroutine` of the function.
    :raises FailJob: if a plain function returns something that has not run yet.
    """
    value = function(*args, **kwargs)
    if value is None:  # nearly always
        return None
    if coroutine and inspect.isawaitable(value):
        value = _run(value)
    if is_unrun(value) or (isinstance(value, (list, tuple)) and any(map(is_unrun, value))):
        _close(value)
        raise FailJob(
            f"expected the job to be done when its function returns, found that it returned a {type(value).__name__}, "
            "which nobody runs; write the function as 'async def', or run it inside the function"
        )
    return value


def is_unrun(value: Any) -> bool:
    """Whether a value is work that is not done: something to be awaited, a lazy iterator such as that of
    ``map``, or the future of a thread pool."""
    if isinstance(value, Future):
        return not value.done()
    lazy = isinstance(value, (GeneratorType, map, filter, zip, starmap))
    return lazy or inspect.isawaitable(value) or inspect.isasyncgen(value)


def _close(value: Any) -> None:
    """Close what never ran, so that Python does not warn about it. An async generator that never began needs no end."""
    if isinstance(value, (list, tuple)):
        for one in filter(is_unrun, value):
            _close(one)
        return
    close = getattr(value, "close", None) or getattr(value, "cancel", None)
    if close is not None:
        close()


def _run(awaitable: Awaitable[Any]) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_here(awaitable)
    return _run_beside(awaitable)


def _run_here(awaitable: Awaitable[Any]) -> Any:
    loop: asyncio.AbstractEventLoop | None = getattr(_local, "loop", None)
    if loop is None or loop.is_closed():
        loop = _local.loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_awaited(awaitable))
    finally:
        _cancel_rest(loop)


def _run_beside(awaitable: Awaitable[Any]) -> Any:
    """In a separate thread: a job in the request of an asyncio server can't use the loop that runs there."""
    answer: list[Any] = []
    failure: list[BaseException] = []
    context = contextvars.copy_context()

    def target() -> None:
        try:
            answer.append(context.run(_run_here, awaitable))
        except BaseException as error:
            failure.append(error)
        finally:
            close_loop()

    thread = threads.Thread(target=target, name="pijobs-coroutine")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return answer[0]


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _cancel_rest(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the tasks that a job left behind: otherwise they would continue whenever a later job runs."""
    if loop.is_running() or not (rest := asyncio.all_tasks(loop)):
        return
    for task in rest:
        task.cancel()
    ended, stubborn = loop.run_until_complete(asyncio.wait(rest, timeout=CANCEL_TIME))
    for task in ended:
        if not task.cancelled():
            task.exception()  # else asyncio logs that nobody retrieved it
    if stubborn:  # the job is done; its thread gets another loop
        loop.close()


def close_loop() -> None:
    """Close the event loop of this thread, which ends."""
    loop: asyncio.AbstractEventLoop | None = getattr(_local, "loop", None)
    if loop is not None and not loop.is_closed():
        _cancel_rest(loop)
    if loop is not None and not loop.is_closed():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
