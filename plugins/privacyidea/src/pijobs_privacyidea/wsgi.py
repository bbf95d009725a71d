"""privacyIDEA's app with the routes and pages of the job queue under ``/jobqueue``.

In the WSGI file: ``from pijobs_privacyidea.wsgi import create_app`` instead of the one of ``privacyidea.app``.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from pijobs.errors import ConfigurationError
from pijobs.server import create_app as create_server
from pijobs.server.auth import HostSignIn
from pijobs_privacyidea.host import IdleFiles

MOUNT = "/jobqueue"
#: Seconds.
TRUST = 30.0


def create_app(config_name: str = "production", **options: Any) -> flask.Flask:
    """privacyIDEA's ``create_app``, and routes and pages beside it; with no queue configured they say so.

    :param options: as privacyIDEA takes them: ``config_file``, ``silent``, ``initialize_hsm``.
    :raises ConfigurationError: when the class of the queue can't be imported.
    :raises SettingsError: with all faults.
    """
    from privacyidea.app import create_app as create_privacyidea

    app: flask.Flask = create_privacyidea(config_name=config_name, **options)
    _check_class(app)
    IdleFiles.watch(app)
    sign_in = HostSignIn(partial(administrator, app), partial(sign_in_by_password, app), Administrators(app).still)
    server = create_server(settings=dict(app.config), host_sign_in=sign_in)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {MOUNT: server})  # type: ignore[method-assign]
    return app


def _check_class(app: flask.Flask) -> None:
    """privacyIDEA passes over a class that can't be imported: it would send every mail in the request, in silence."""
    from privacyidea.lib.queue import has_job_queue

    name = app.config.get("PI_JOB_QUEUE_CLASS")
    with app.app_context():
        if name and not has_job_queue():
            raise ConfigurationError(f"PI_JOB_QUEUE_CLASS: expected a class that can be imported, found {name!r}")


def administrator(app: flask.Flask, token: str) -> str | None:
    """The name of the administrator a token of privacyIDEA's ``POST /auth`` belongs to; None for everybody else."""
    from privacyidea.api.lib.utils import verify_auth_token
    from privacyidea.lib.error import AuthError

    with app.test_request_context():  # the check looks at the request of privacyIDEA's app
        try:
            user = verify_auth_token(token, ["admin"])
        except AuthError:
            return None
    return str(user["username"])


class Administrators:
    """Who signed in to the pages, and is an administrator yet. A page asks each second; the database is asked less."""

    def __init__(self, app: flask.Flask) -> None:
        self._app = app
        self._until: dict[str, float] = {}

    def still(self, name: str) -> bool:
        """Whether it was one within the last :data:`TRUST` seconds."""
        if time.monotonic() < self._until.get(name, 0.0):
            return True
        self._until.pop(name, None)
        if not self._is_one(name):
            return False
        self._until[name] = time.monotonic() + TRUST
        return True

    def _is_one(self, name: str) -> bool:
        from privacyidea.lib.auth import get_db_admin
        from privacyidea.lib.user import User

        with self._app.test_request_context():
            realms = self._app.config.get("SUPERUSER_REALM", [])
            return bool(get_db_admin(name)) or any(User(name, realm=realm.lower()).exist() for realm in realms)


def sign_in_by_password(app: flask.Flask, name: str, password: str) -> str | None:
    """The name of the administrator who signs in like this by privacyIDEA's own ``POST /auth``, with its policies and
    its audit; None for everybody else."""
    where = {"REMOTE_ADDR": flask.request.remote_addr, "HTTP_USER_AGENT": str(flask.request.user_agent)}
    form = {"username": name, "password": password}
    answer: Any = app.test_client().post("/auth", data=form, environ_overrides=where).get_json(silent=True)
    try:
        token = answer["result"]["value"]["token"]
    except (KeyError, TypeError):  # refused, or a challenge
        return None
    return administrator(app, token)
