"""Slow work leaves the request, and nothing gets lost on the way.

The names here are the public ones for plugin authors; errors are in :mod:`pijobs.errors`, the Flask extension in
:mod:`pijobs.flask`, test fixtures in :mod:`pijobs.testing`.
"""

from huey import crontab

from pijobs.errors import DestinationDown, FailJob, RetryJob
from pijobs.factory import HueyQueue
from pijobs.hookspecs import Check, CheckResult, InstanceEvent, Page, hookimpl, hookspec
from pijobs.jobs import Job, JobContext, Limits, RetryPolicy, State
from pijobs.plugins import call_hook
from pijobs.queue import Handle
from pijobs.settings import Setting, Settings

__all__ = [
    "Check",
    "CheckResult",
    "DestinationDown",
    "FailJob",
    "Handle",
    "HueyQueue",
    "InstanceEvent",
    "Job",
    "JobContext",
    "Limits",
    "Page",
    "RetryJob",
    "RetryPolicy",
    "Setting",
    "Settings",
    "State",
    "call_hook",
    "crontab",
    "hookimpl",
    "hookspec",
]
