"""privacyIDEA's app with the routes and pages of the job queue under ``/jobqueue``.

In the WSGI file: ``from pijobs_privacyidea.wsgi import create_app`` instead of the one of ``privacyidea.app``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from pijobs.server import create_app as create_server
from pijobs.server.auth import HostSignIn

MOUNT = "/jobqueue"


def create_app(config_name: str = "production", **options: Any) -> flask.Flask:
    """privacyIDEA's ``create_app``, and routes and pages beside it; with no queue configured they say so.

    :param options: as privacyIDEA takes them: ``config_file``, ``silent``, ``initialize_hsm``.
    """
    from privacyidea.app import create_app as create_privacyidea

    app: flask.Flask = create_privacyidea(config_name=config_name, **options)

    sign_in = HostSignIn(partial(administrator, app), partial(sign_in_by_password, app))
    server = create_server(settings=dict(app.config), host_sign_in=sign_in)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {MOUNT: server})  # type: ignore[method-assign]
    return app


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
