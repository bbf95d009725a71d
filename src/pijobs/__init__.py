"""A job queue: it moves slow work out of the request and loses none of it.

The names here are public, for plugin authors. Errors are in :mod:`pijobs.errors`, the Flask extension in
:mod:`pijobs.flask`, test fixtures in :mod:`pijobs.testing`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pijobs import moved

if TYPE_CHECKING:
    from pijobs.base.masks import mask_address, mask_number
    from pijobs.base.told import Told
    from pijobs.context import JobContext
    from pijobs.decorator import JobFunction, job
    from pijobs.errors import DestinationDown, FailJob, RetryJob
    from pijobs.factory import HueyQueue
    from pijobs.jobs import Job, Limits, RetryPolicy, State
    from pijobs.plugins.hookspecs import Check, CheckResult, InstanceEvent, Page, Scheduled, hookimpl, hookspec
    from pijobs.plugins.loading import call_hook
    from pijobs.plugins.registration import jobs_in
    from pijobs.request.calls import JobCall
    from pijobs.request.queue import Handle, Queue
    from pijobs.settings import Setting, Settings

# Imported at first use: a process that needs few of them starts sooner, and if one can't be imported,
# pijobs.base.requirements can still say why.
_MODULES = {
    "decorator": ("JobFunction", "job"),
    "errors": ("DestinationDown", "FailJob", "RetryJob"),
    "factory": ("HueyQueue",),
    "base.masks": ("mask_address", "mask_number"),
    "base.told": ("Told",),
    "context": ("JobContext",),
    "jobs": ("Job", "Limits", "RetryPolicy", "State"),
    "plugins.hookspecs": ("Check", "CheckResult", "InstanceEvent", "Page", "Scheduled", "hookimpl", "hookspec"),
    "plugins.loading": ("call_hook",),
    "plugins.registration": ("jobs_in",),
    "request.calls": ("JobCall",),
    "request.queue": ("Handle", "Queue"),
    "settings": ("Setting", "Settings"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


moved.install()


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pijobs.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def crontab(
    minute: str = "*", hour: str = "*", day: str = "*", month: str = "*", day_of_week: str = "*", strict: bool = False
) -> Callable[[datetime], bool]:
    """huey's ``crontab``, for the schedule of a job: returns whether a time matches.

    :param day_of_week: 0 is Sunday.
    :param strict: refuse an invalid schedule.
    :raises ValueError: if ``strict``.
    """
    # huey imports the drivers of all its databases, which takes a third of a second that most processes can save.
    from huey import crontab

    matches: Callable[[datetime], bool] = crontab(minute, hour, day, month, day_of_week, strict)
    # huey stores sets of numbers; people want to read what they wrote.
    matches.__doc__ = " ".join((minute, hour, day, month, day_of_week))
    return matches


__all__ = [
    "Check",
    "CheckResult",
    "DestinationDown",
    "FailJob",
    "Handle",
    "HueyQueue",
    "InstanceEvent",
    "Job",
    "JobCall",
    "JobContext",
    "JobFunction",
    "Limits",
    "Page",
    "Queue",
    "RetryJob",
    "RetryPolicy",
    "Scheduled",
    "Setting",
    "Settings",
    "State",
    "Told",
    "call_hook",
    "crontab",
    "hookimpl",
    "hookspec",
    "job",
    "jobs_in",
    "mask_address",
    "mask_number",
]
