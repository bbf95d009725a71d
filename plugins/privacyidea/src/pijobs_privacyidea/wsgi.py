"""privacyIDEA's app with the routes and pages of the job queue under ``/jobqueue``.

In the WSGI file, use ``from pijobs_privacyidea.wsgi import create_app`` instead of that of ``privacyidea.app``. Without
a ``pi.cfg``, commands get the settings of that app by ``pijobs --app pijobs_privacyidea.wsgi:create_app``.
"""

from __future__ import annotations

from typing import Any

import flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from pijobs.errors import ConfigurationError
from pijobs.flask import EXTENSION
from pijobs.server import create_app as create_server
from pijobs_privacyidea.administrators import Administrators
from pijobs_privacyidea.fingerprint import DefinitionsFingerprint
from pijobs_privacyidea.host import Host, IdleFiles

MOUNT = "/jobqueue"


def create_app(config_name: str = "production", silent: bool = True, **options: Any) -> flask.Flask:
    """privacyIDEA's ``create_app``, with the routes and pages of the queue. Without a queue, they report that.

    :param silent: whether privacyIDEA prints nothing at its start, since programs may read the output of commands.
    :param options: further options of privacyIDEA: ``config_file``, ``initialize_hsm``.
    :raises ConfigurationError: if the class of the queue can't be imported, or there is no ``SECRET_KEY``.
    :raises SettingsError: with all faults.
    """
    from privacyidea.app import create_app as create_privacyidea

    app: flask.Flask = create_privacyidea(config_name=config_name, silent=silent, **options)
    _check_class(app)
    IdleFiles.watch(app)
    server = create_server(settings=dict(app.config), host_sign_in=Administrators(app).sign_in(MOUNT))
    app.extensions[EXTENSION] = installation = server.extensions[EXTENSION]
    DefinitionsFingerprint.install(installation.settings).host = Host.adopt(installation.settings, app)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {MOUNT: server})  # type: ignore[method-assign]
    return app


def _check_class(app: flask.Flask) -> None:
    """Check the queue class: privacyIDEA ignores one that can't be imported, and sends every mail in the request."""
    from privacyidea.lib.queue import has_job_queue

    from pijobs_privacyidea.queue import NO_KEY, has_random_key

    name = app.config.get("PI_JOB_QUEUE_CLASS")
    if name and not app.config.get("PI_JOB_QUEUE_KEYS") and has_random_key(app):
        raise ConfigurationError(NO_KEY)
    with app.app_context():
        if name and not has_job_queue():
            raise ConfigurationError(f"PI_JOB_QUEUE_CLASS: expected a class that can be imported, found {name!r}")
