"""The hooks that a plugin can implement.

A plugin is a module (or object) with functions marked :data:`hookimpl`; pluggy finds them by their names. pijobs guards
every call: it logs an error with the plugin's name, and continues with the other plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click
    import flask

    from pijobs.jobs import Job
    from pijobs.settings import Setting, Settings

#: Name of the pluggy project and of the entry point group.
PROJECT = "pijobs"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check.

    :param ok: False makes readiness red: jobs are not run, or are lost.
    :param message: one sentence for people; a :class:`~pijobs.Told` is translated on the pages.
    :param advice: what to do, if it is not ok or a warning; likewise.
    :param warning: ok, but somebody should look at it.
    :param alarm: a warning that is shown in red, because a protection is off.
    """

    ok: bool
    message: str
    advice: str = ""
    warning: bool = False
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """A named check for readiness and ``pijobs config check``. ``run`` must return within a second or two."""

    name: str
    run: Callable[[], CheckResult]


@dataclass(frozen=True, slots=True)
class Page:
    """An entry of the navigation.

    :param endpoint: a Flask endpoint without arguments; in a :class:`~pijobs.server.pages.PageBlueprint`
        ``<blueprint>.<view>``. Empty: no entry, only a sentence in the overview.
    :param things: what the plugin's jobs send, in plural ("mails"): the overview says whether they are going out.
    :param jobs: prefix of the names of these jobs ("mail.").
    :param destination: where they are sent ("the mail server"), for the sentences on the page Messages.
    """

    title: str
    endpoint: str
    things: str = ""
    jobs: str = ""
    destination: str = ""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """Something that happens at certain times: a row of the page "Schedule".

    :param when: its schedule, for people: ``"20 2 * * *"``.
    :param next: the next time, ms since the epoch; None: not within a year.
    :param last: the time for which it last started; None: never.
    :param timezone: the time zone of ``when``.
    :param instance: id of its last run.
    :param state: of that run; ``""`` if unknown.
    :param reason: the reason for this state.
    :param missed: what happens to missed times: ``"once"`` or ``"skip"``.
    :param skipped: times before ``next`` that somebody left out, ms since the epoch.
    """

    name: str
    when: str
    next: int | None
    last: int | None
    timezone: str = "UTC"
    instance: str = ""
    state: str = ""
    reason: str = ""
    missed: str = "once"
    skipped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceEvent:
    """What observers learn about a job instance. It contains no arguments."""

    id: str
    name: str
    group: str
    state: str
    attempt: int = 0
    #: Seconds from due time to start, and of the run; None if there was none.
    waited: float | None = None
    took: float | None = None
    error: str | None = None
    reason: str | None = None


@hookspec
def register_settings() -> Iterable[Setting]:  # type: ignore[empty-body]
    """The plugin's settings. Their names begin with ``PI_JOB_QUEUE_<PLUGIN>_``."""


@hookspec
def register_hookspecs() -> Iterable[Any]:  # type: ignore[empty-body]
    """The plugin's own hooks for other plugins: modules with functions marked :data:`hookspec`.

    Call these hooks with :func:`pijobs.call_hook`.
    """


@hookspec
def register_jobs(settings: Settings) -> Iterable[Job]:  # type: ignore[empty-body]
    """The plugin's jobs. Without this hook, these are the functions with ``@job`` that the module defines."""


@hookspec
def register_blueprints(app: flask.Flask) -> Iterable[flask.Blueprint]:  # type: ignore[empty-body]
    """Blueprints for the server that ships with pijobs."""


@hookspec
def register_pages() -> Iterable[Page]:  # type: ignore[empty-body]
    """Entries in the navigation of the server's pages."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to ``pijobs``."""


@hookspec
def register_drills() -> Iterable[Any]:  # type: ignore[empty-body]
    """Exercises for ``pijobs drill``, which tests an installation: :class:`pijobs.observe.drill.Exercise`."""


@hookspec
def stand_in(tell: Callable[[str], object]) -> AbstractContextManager[Mapping[str, Any]]:  # type: ignore[empty-body]
    """Replaces the plugin's destinations while ``pijobs dev`` runs, for example by an SMTP server on this machine. The
    context manager returns the settings with which server and worker use the stand-in.

    :param tell: shows a line on the terminal.
    """


@hookspec
def register_checks(queue: Any) -> Iterable[Check]:  # type: ignore[empty-body]
    """Checks for readiness and ``pijobs config check``."""


@hookspec(firstresult=True)
def host_app(settings: Settings) -> flask.Flask | None:
    """The Flask app in whose context jobs run. pijobs uses the first app that a plugin returns."""


@hookspec
def told_afterwards(settings: Settings, instances: Mapping[str, str]) -> Mapping[str, str]:  # type: ignore[empty-body]
    """What destinations reported after the instances had ended, such as "delivered": one line for people per id.

    pijobs calls it for each list of instances and for each shown instance, so it must return within milliseconds.

    :param instances: ids of ended instances, each with the name of its job.
    """


@hookspec
def list_schedules(queue: Any) -> Iterable[Scheduled]:  # type: ignore[empty-body]
    """Rows of the page "Schedule" for what the plugin runs at certain times besides its periodic jobs."""


@hookspec
def worker_started(worker: Any) -> None:
    """A worker process is about to give its first sign of life. Called in each process that runs jobs, by each of its
    threads."""


@hookspec
def worker_stopped(worker: Any) -> None:
    """A worker process has finished its last job, and has called all observers for it."""


@hookspec
def job_enqueued(event: InstanceEvent) -> None:
    """An instance was stored."""


@hookspec
def job_started(event: InstanceEvent) -> None:
    """An attempt begins."""


@hookspec
def job_finished(event: InstanceEvent) -> None:
    """An attempt, or the instance, ended in ``event.state``.

    pijobs calls it right before it stores the outcome. If the worker is killed in between, the instance runs again, and
    the hook is called again. Some instances end without a worker (the deadline passed, a third worker died): the worker
    that finds them calls the hook. If that worker is killed at that moment, no worker does.
    """
