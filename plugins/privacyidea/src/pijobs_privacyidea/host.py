"""privacyIDEA's app in a worker."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import flask

from pijobs import Settings
from pijobs.base.forks import gate
from pijobs.settings import CONFIG_VARIABLE

_LOGGING = Path(__file__).with_name("logging.yaml")
_WORKERS_CONFIG = """\
__file__ = {file!r}
with open(__file__, 'rb') as file:
    exec(compile(file.read(), __file__, 'exec'))
PI_LOGCONFIG = {logging!r}
"""


@dataclass(frozen=True)
class IdleFiles:
    """The idle connections of SQLAlchemy to privacyIDEA's database. An SQLite file is closed before a fork, since a
    child that inherits it can't use the file (see :mod:`pijobs.base.forks`)."""

    app: flask.Flask

    @classmethod
    def watch(cls, app: flask.Flask) -> None:
        """Close them at each fork, as long as the app exists."""
        gate.keep(app.extensions.setdefault("pijobs_idle_files", cls(app)))

    def close_idle(self) -> None:
        from privacyidea.models import db

        with self.app.app_context():
            if db.engine.dialect.name == "sqlite":
                db.engine.dispose()


@dataclass
class Host:
    """The app, and the process that uses its database connections."""

    app: flask.Flask
    pid: int

    @classmethod
    def of(cls, settings: Settings) -> Host:
        """The app of an installation, made once."""

        def make() -> Host:
            app = make_app(settings.file)
            IdleFiles.watch(app)
            return cls(app, os.getpid())

        return settings.resource(cls, make)

    @classmethod
    def adopt(cls, settings: Settings, app: flask.Flask) -> Host:
        """Use an existing app of this process."""
        return settings.resource(cls, lambda: cls(app, os.getpid()))

    def after_fork(self) -> None:
        """Leave the parent's database connections to the parent."""
        if os.getpid() == self.pid:
            return
        from privacyidea.models import db

        with self.app.app_context():
            db.engine.dispose(close=False)
        self.pid = os.getpid()


def make_app(file: Path | None) -> flask.Flask:
    """privacyIDEA's app for running jobs. Does not open the server's log, since two processes that rotate one file lose
    lines; privacyIDEA logs to the worker's log."""
    from privacyidea.app import create_app

    # At lower levels, privacyIDEA logs arguments of its functions.
    logging.getLogger("privacyidea").setLevel(logging.WARNING)
    if file is None:
        app = create_app(config_name="production", silent=True)
    else:
        with _own_logging(file):
            app = create_app(config_name="production", silent=True)
    assert isinstance(app, flask.Flask)
    return app


@contextmanager
def _own_logging(file: Path) -> Iterator[None]:
    """Have privacyIDEA read the given ``pi.cfg`` with another ``PI_LOGCONFIG`` in this block."""
    before = os.environ.get(CONFIG_VARIABLE)
    with tempfile.TemporaryDirectory() as directory:
        wrapper = Path(directory, "pi.cfg")
        wrapper.write_text(_WORKERS_CONFIG.format(file=str(file), logging=str(_LOGGING)), encoding="utf-8")
        os.environ[CONFIG_VARIABLE] = str(wrapper)
        try:
            yield
        finally:
            del os.environ[CONFIG_VARIABLE]
            if before is not None:
                os.environ[CONFIG_VARIABLE] = before
