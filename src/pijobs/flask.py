"""The Flask extension::

    jobs = JobQueue(app)                 # or: jobs = JobQueue(); jobs.init_app(app)
    jobs.enqueue("mail.send", kwargs={…})

It uses the settings in ``app.config``. Each app has its own state, in ``app.extensions["pijobs"]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import click
import flask
from flask.cli import ScriptInfo

from pijobs.errors import ConfigurationError
from pijobs.factory import Installation, build
from pijobs.request.calls import JobCall
from pijobs.request.queue import Handle, Queue
from pijobs.settings import AppPlaces

EXTENSION = "pijobs"


class JobQueue:
    """Gives a Flask app its job queue.

    :param app: the app, or None and :meth:`init_app` later.
    :param pages: path of the queue's pages in the app, such as ``/jobqueue``; None: no pages.
    :param authorize: with ``pages``: returns the role of the present user by the app's own sign-in (``"helpdesk"``,
        ``"viewer"``, ``"operator"`` or ``"admin"``), or a pair of role and name; None refuses access. Without it,
        people sign in with accounts of ``pijobs admin``.
    """

    def __init__(
        self,
        app: flask.Flask | None = None,
        *,
        pages: str | None = None,
        authorize: Callable[[], str | tuple[str, str] | None] | None = None,
    ) -> None:
        if pages is None and authorize is not None:
            raise ConfigurationError("authorize: expected pages='/jobqueue' or another path beside it, found no pages")
        self._pages, self._authorize = pages, authorize
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask, *, directory: Path | None = None, file: Path | None = None) -> Installation:
        """Build the queue that ``app.config`` describes, without connecting to anything.

        :param directory: folder of the ``pi.cfg``; default: that of the app's project.
        :param file: the ``pi.cfg`` itself, if the app was configured with it.
        :raises SettingsError: with all errors.
        :raises ConfigurationError: if the app already has a queue.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError("this app has a JobQueue already; use current_queue() instead of a second one")
        installation = build(app.config, directory=directory, file=file, app=_places(app))
        app.extensions[EXTENSION] = installation
        if "jobs" not in app.cli.commands:
            app.cli.add_command(_commands)
        for plugin in installation.plugins.failed:
            app.logger.error("plugin %s is not loaded: %s", plugin.name, plugin.error)
        for warning in installation.settings.warnings:
            app.logger.warning("%s", warning)
        if self._pages is not None:
            _add_pages()(app, self._pages, authorize=self._authorize)
        return installation

    def enqueue(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Handle:
        """:meth:`pijobs.request.queue.Queue.enqueue` of the current app."""
        return current_queue().enqueue(name, args, kwargs, **options)

    def enqueue_many(self, calls: Iterable[JobCall]) -> list[Handle]:
        """:meth:`pijobs.request.queue.Queue.enqueue_many` of the current app."""
        return current_queue().enqueue_many(calls)

    def enqueue_on_commit(self, session: object, call: JobCall) -> Handle:
        """:meth:`pijobs.request.queue.Queue.enqueue_on_commit` of the current app."""
        return current_queue().enqueue_on_commit(session, call)

    def handle(self, instance_id: str) -> Handle:
        """:meth:`pijobs.request.queue.Queue.handle` of the current app."""
        return current_queue().handle(instance_id)

    def run(self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Handle:
        """:meth:`pijobs.request.queue.Queue.run` of the current app."""
        return current_queue().run(name, args, kwargs)


@click.command(
    "jobs", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def _commands(context: click.Context, args: tuple[str, ...]) -> None:
    """The job queue: worker, status, jobs and more; see 'flask jobs --help'."""
    # The commands import this module, so they announce themselves, like the pages.
    [announced] = metadata.entry_points(group="pijobs.commands")
    info = context.ensure_object(ScriptInfo)
    announced.load()(info.load_app(), args, info.app_import_path)


def _add_pages() -> Callable[..., None]:
    """Find the pages by their entry point: they import this module, so this module can't import them."""
    [announced] = metadata.entry_points(group="pijobs.pages")
    return cast(Callable[..., None], announced.load())


def _places(app: flask.Flask) -> AppPlaces:
    def engine() -> Any:
        # Looked up at first use, because the app may get its SQLAlchemy after its JobQueue.
        extension = app.extensions.get("sqlalchemy")
        if extension is None:
            return None
        with app.app_context():
            return getattr(extension, "db", extension).engine  # before Flask-SQLAlchemy 3.0 it is an object with ``db``

    return AppPlaces(Path(app.root_path), Path(app.instance_path), engine)


def current_installation() -> Installation:
    """The installation of the current app.

    :raises ConfigurationError: if the app has no :class:`JobQueue`.
    :raises RuntimeError: outside of an app context (raised by Flask).
    """
    try:
        return cast(Installation, flask.current_app.extensions[EXTENSION])
    except KeyError:
        raise ConfigurationError("this app has no job queue; call JobQueue(app) first") from None


def current_queue() -> Queue:
    """The queue of the current app."""
    return current_installation().queue
