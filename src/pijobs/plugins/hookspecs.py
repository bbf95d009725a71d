"""What a plugin can give to pijobs.

A plugin is a module (or object) with functions marked :data:`hookimpl`; pluggy finds them by their names. Every call is
guarded: an error is logged with the plugin's name, and the others go on.
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
    """What a check found.

    :param ok: False makes readiness red: jobs do not get done, or get lost.
    :param message: one sentence for people.
    :param advice: what to do, when it is not ok or a warning.
    :param warning: it is ok, but somebody should look at it.
    :param alarm: a warning that is shown in red: what is meant to protect is off.
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

    :param endpoint: a Flask endpoint without arguments; of a :class:`~pijobs.server.pages.PageBlueprint` as
        ``<blueprint>.<view>``. Empty: no entry, but a sentence of the overview.
    :param things: what the plugin's jobs do, in plural ("mails"): the overview says whether they are going out.
    :param jobs: how the names of these jobs begin ("mail.").
    :param destination: what they go to ("the mail server"), for the sentences of the helpdesk.
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
    :param next: when it comes next, ms since the epoch; None: not within a year.
    :param last: for which time it ran last, or began to; None: never.
    :param timezone: that ``when`` is read in.
    :param instance: id of its last run.
    :param state: of that run; ``""`` where nothing is known of it.
    :param reason: why it is in this state.
    :param missed: what becomes of missed times: ``"once"`` or ``"skip"``.
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


@dataclass(frozen=True, slots=True)
class InstanceEvent:
    """What observers are told of a job instance; no argument, no body."""

    id: str
    name: str
    group: str
    state: str
    attempt: int = 0
    #: Seconds from due to start, and the run itself; None where there was none.
    waited: float | None = None
    took: float | None = None
    error: str | None = None
    reason: str | None = None


@hookspec
def register_settings() -> Iterable[Setting]:  # type: ignore[empty-body]
    """The plugin's settings. Their names begin with ``PI_JOB_QUEUE_<PLUGIN>_``."""


@hookspec
def register_hookspecs() -> Iterable[Any]:  # type: ignore[empty-body]
    """Modules with hooks of the plugin's own, functions marked :data:`hookspec`, which other plugins may give.

    :func:`pijobs.call_hook` calls them.
    """


@hookspec
def register_jobs(settings: Settings) -> Iterable[Job]:  # type: ignore[empty-body]
    """The plugin's jobs. A module without this hook gives the functions with ``@job`` that it defines."""


@hookspec
def register_blueprints(app: flask.Flask) -> Iterable[flask.Blueprint]:  # type: ignore[empty-body]
    """Blueprints for the server that ships with pijobs."""


@hookspec
def register_pages() -> Iterable[Page]:  # type: ignore[empty-body]
    """Entries of the navigation of the server's pages."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Adds commands to ``pijobs``."""


@hookspec
def register_drills() -> Iterable[Any]:  # type: ignore[empty-body]
    """What ``pijobs drill`` can prove an installation by: :class:`pijobs.observe.drill.Exercise`."""


@hookspec
def stand_in(tell: Callable[[str], object]) -> AbstractContextManager[Mapping[str, Any]]:  # type: ignore[empty-body]
    """What takes the place of the plugin's destinations while ``pijobs dev`` runs, such as an SMTP server of this
    machine. Entering it gives the settings by which server and worker find it.

    :param tell: shows a line on the terminal.
    """


@hookspec
def register_checks(queue: Any) -> Iterable[Check]:  # type: ignore[empty-body]
    """Checks for readiness and ``pijobs config check``."""


@hookspec(firstresult=True)
def host_app(settings: Settings) -> flask.Flask | None:
    """The Flask app in whose context jobs run. The first plugin that returns one wins."""


@hookspec
def told_afterwards(settings: Settings, instances: Mapping[str, str]) -> Mapping[str, str]:  # type: ignore[empty-body]
    """What destinations told after instances had ended, such as "delivered", by their ids; for people, one line.

    Called for each list of instances and each single one, so it must answer in milliseconds.

    :param instances: ids of ended instances, each with the name of its job.
    """


@hookspec
def list_schedules(queue: Any) -> Iterable[Scheduled]:  # type: ignore[empty-body]
    """What the plugin has done at certain times beside its periodic jobs: rows of the page "Schedule"."""


@hookspec
def worker_started(worker: Any) -> None:
    """A worker process is about to give its first sign of life. Called in each process that runs jobs, by each of its
    threads."""


@hookspec
def worker_stopped(worker: Any) -> None:
    """A worker process has finished its last job, and told all observers."""


@hookspec
def job_enqueued(event: InstanceEvent) -> None:
    """An instance was stored."""


@hookspec
def job_started(event: InstanceEvent) -> None:
    """An attempt begins."""


@hookspec
def job_finished(event: InstanceEvent) -> None:
    """An attempt, or the instance, ended in ``event.state``.

    Told right before the storage is told: where the worker is killed in between, the instance runs again, and is told
    again. What the storage ends on its own (a deadline that passed, a third worker that went down) is told by the
    worker that finds it; where that one is killed in the same moment, by none.
    """
