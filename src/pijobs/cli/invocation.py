"""What the commands of one invocation share: ``pi.cfg`` or app, and the objects built from it when they are needed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pijobs.base.files import name_of
from pijobs.base.redact import describe, redact
from pijobs.errors import ConfigurationError, PijobsError
from pijobs.factory import Installation, build
from pijobs.plugins.loading import Plugins
from pijobs.request.queue import Queue
from pijobs.settings import PREFIX, Settings, config_warnings, find_config, read_config
from pijobs.storage.contract import Storage

if TYPE_CHECKING:
    import flask


class Invocation:
    """One call of ``pijobs``.

    :param config: the value of ``--config``.
    :param app_path: the value of ``--app``.
    :param app: the app itself, of ``flask jobs``.
    """

    def __init__(self, config: str | None = None, app_path: str | None = None, app: flask.Flask | None = None) -> None:
        #: The ``pi.cfg`` of ``--config``.
        self.config = config
        self.app_path = app_path
        self._app = app
        #: Failed plugins that were reported. A command that reports all of them itself puts None here.
        self.told: set[str] | None = set()

    def config_path(self) -> Path:
        """:raises ConfigurationError: when there is no ``pi.cfg``."""
        return find_config(self.config)

    @property
    def has_app(self) -> bool:
        """Whether there is an app. Does not import it."""
        return self._app is not None or self.app_path is not None

    @cached_property
    def app(self) -> flask.Flask | None:
        """The app of ``--app``. :raises ConfigurationError: when it is not an app."""
        return load_app(self.app_path) if self._app is None and self.app_path is not None else self._app

    @property
    def _of_app(self) -> Installation | None:
        """The installation of the app, if the app has a ``JobQueue``."""
        if self.app is None:
            return None
        from pijobs.flask import EXTENSION

        installation: Installation | None = self.app.extensions.get(EXTENSION)
        return installation

    def source(self) -> str:
        """The source of the settings, for messages."""
        return str(self.config_path()) if self.app is None or self._of_app is None else f"app {self.app.name}"

    @property
    def values(self) -> dict[str, Any]:
        """The settings as written in the ``pi.cfg`` or by the app."""
        return self.file_values if self.app is None or self._of_app is None else dict(self.app.config)

    @cached_property
    def file_values(self) -> dict[str, Any]:
        """The settings as written in the ``pi.cfg``."""
        path = self.config_path()
        for message, advice in config_warnings(path):
            click.echo(f"warning: {message}; {advice}", err=True)
        return read_config(path)

    @cached_property
    def plugins(self) -> Plugins:
        """The plugins that the ``pi.cfg`` allows, or all plugins if it can't be read."""
        if (of_app := self._of_app) is not None:
            return of_app.plugins
        try:
            allowed = read_config(self.config_path()).get(PREFIX + "PLUGINS")
        except ConfigurationError:
            allowed = None
        return Plugins(allowed if isinstance(allowed, (list, tuple)) else None)

    def installation(self, *, strict: bool = False) -> Installation:
        """The installation of the app or the ``pi.cfg``; see :func:`pijobs.factory.build`."""
        if (of_app := self._of_app) is not None:
            if strict:
                of_app.plugins.refuse_failed()
            return of_app  # its warnings are in the log of the app
        try:
            path = self.config_path()
        except ConfigurationError:
            if self.app is None:
                raise
            raise ConfigurationError(f"app {self.app.name!r} has no job queue; call JobQueue(app) in it") from None
        installation = build(self.values, directory=path.parent, file=path, strict=strict)
        for warning in installation.settings.warnings:
            click.echo(f"warning: {warning}", err=True)
        if not strict:
            self.tell_failed(installation.plugins)
        return installation

    def tell_failed(self, plugins: Plugins) -> None:
        """Report failed plugins, each once."""
        for plugin in plugins.failed:
            if self.told is not None and plugin.name not in self.told:
                self.told.add(plugin.name)
                click.echo(f"warning: plugin {plugin.name} is not loaded: {plugin.error}", err=True)

    def host(self, *, strict: bool = False) -> tuple[flask.Flask, Installation]:
        """The app in whose context jobs run: ``--app``, else the ``host_app`` of a plugin, else an empty one."""
        import flask

        from pijobs.flask import EXTENSION

        installation = self.installation(strict=strict)
        app = self.app
        if app is None:
            app = installation.plugins.first("host_app", settings=installation.settings)
        if app is None:
            app = flask.Flask("pijobs.worker")
            app.config.update(self.values)
        app.extensions.setdefault(EXTENSION, installation)
        return app, installation

    def settings(self) -> Settings:
        """The validated settings."""
        return self.installation().settings

    def queue(self) -> Queue:
        """The queue, with a storage. :raises ConfigurationError: when none is configured."""
        queue = self.installation().queue
        if queue.storage is None:
            raise ConfigurationError(f"no queue is configured; set {PREFIX}CLASS = 'pijobs.HueyQueue' in pi.cfg")
        return queue

    def storage(self) -> Storage:
        """The storage of the queue. :raises ConfigurationError: when no queue is configured."""
        storage = self.queue().storage
        assert storage is not None
        return storage

    def places(self) -> tuple[list[Storage], str | None]:
        """The storages that answer; see :meth:`pijobs.storage.places.Places.within_reach`."""
        return self.queue().places.within_reach()


def tell_if_away(away: str | None) -> int:
    """The exit code if a part of the data could not be read.

    :param away: the message from :meth:`Invocation.places`, or None.
    """
    if away is None:
        return 0
    click.echo(away, err=True)
    return 3


def load_app(path: str) -> flask.Flask:
    """The app, found as flask finds it; the working folder is on the path.

    :param path: ``module``, ``module:app``, ``module:factory``, ``module:factory()`` or a file.
    :raises ConfigurationError: when that is not an app.
    """
    from flask.cli import NoAppException, ScriptInfo

    try:
        return ScriptInfo(app_import_path=path, set_debug_flag=False).load_app()
    except NoAppException as error:
        raise ConfigurationError(f"--app: expected an app, found {path!r}: {error.message}") from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"--app: expected an app, but {path!r} raises {describe(error)}") from error


def who() -> str:
    """Who runs the command, and on which host. With sudo, the user who called sudo."""
    return f"{os.environ.get('SUDO_USER') or name_of(os.getuid())} on {socket.gethostname()}"


def audit(
    settings: Settings, act: str, *, on: str = "", about: str = "", fields: Iterable[str] = (), reason: str = ""
) -> None:
    """Record in the audit log what this command did."""
    # Importing SQLAlchemy takes long, and commands that only read do not need it.
    from pijobs.audit import AuditLog, Entry

    entry = Entry(act, who=who(), role="command", on=on, about=about, fields=tuple(fields), reason=reason)
    try:
        AuditLog.of(settings).record(entry)
    except PijobsError as error:  # no key, or no driver of the database
        click.echo(f"warning: {act} is not in the audit log: {redact(str(error))}", err=True)


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)
version_option = click.version_option(package_name="pijobs", message="%(package)s %(version)s")
