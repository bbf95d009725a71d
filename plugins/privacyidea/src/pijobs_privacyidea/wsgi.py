"""privacyIDEA's app with the routes of the job queue under ``/jobqueue``.

In the WSGI file: ``from pijobs_privacyidea.wsgi import create_app`` instead of the one of ``privacyidea.app``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from pijobs.server import create_app as create_server

MOUNT = "/jobqueue"


def create_app(config_name: str = "production", **options: Any) -> flask.Flask:
    """privacyIDEA's ``create_app``, and the routes beside it; with no queue configured they say so.

    :param options: as privacyIDEA takes them: ``config_file``, ``silent``, ``initialize_hsm``.
    """
    from privacyidea.app import create_app as create_privacyidea

    app: flask.Flask = create_privacyidea(config_name=config_name, **options)

    server = create_server(settings=dict(app.config), host_sign_in=partial(administrator, app))
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
