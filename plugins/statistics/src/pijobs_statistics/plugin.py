"""The hooks of this plugin."""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pijobs import InstanceEvent, Job, Page, Setting, hookimpl
from pijobs.base import threads
from pijobs_statistics import hookspecs, jobs
from pijobs_statistics.record import Attempt, current_attempt
from pijobs_statistics.watch import Watch

if TYPE_CHECKING:
    import click
    from flask import Blueprint

#: The watch of this process. Only a worker process has one.
_watch: Watch | None = None
_lock = threads.Lock()


@hookimpl
def register_settings() -> list[Setting]:
    return list(jobs.SETTINGS)


@hookimpl
def register_hookspecs() -> list[ModuleType]:
    return [hookspecs]


@hookimpl
def register_jobs() -> list[Job]:
    return jobs.register()


@hookimpl
def register_blueprints() -> list[Blueprint]:
    # A worker needs no Flask.
    from pijobs_statistics.pages import make_pages
    from pijobs_statistics.routes import make_blueprint

    return [make_blueprint(), make_pages()]


@hookimpl
def register_pages() -> list[Page]:
    return [Page("Statistics", "usage.index")]


@hookimpl
def register_commands(cli: click.Group) -> None:
    from pijobs_statistics.command import statistics

    cli.add_command(statistics)


@hookimpl
def worker_started(worker: Any) -> None:
    global _watch
    with _lock:  # each thread of a worker calls this
        if _watch is None or _watch.pid != os.getpid():
            _watch = Watch(worker.queue)


@hookimpl
def worker_stopped() -> None:
    global _watch
    with _lock:
        watch, _watch = _watch, None
    if watch is not None and watch.pid == os.getpid():
        watch.stop()


@hookimpl
def job_started(event: InstanceEvent) -> None:
    current_attempt.set(Attempt(event.id, event.attempt))


@hookimpl
def job_finished(event: InstanceEvent) -> None:
    # The housekeeping thread also calls this, for instances that ended without a run.
    current_attempt.set(None)
    if (watch := _watch) is not None:
        watch.ended(event)
