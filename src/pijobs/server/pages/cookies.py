"""The cookie of the pages, apart from the host application's."""

from __future__ import annotations

import flask
from flask.sessions import SecureCookieSessionInterface

from pijobs.server.lockout import HOST_PREFIX


class CarefulSessions(SecureCookieSessionInterface):
    """Flask's sessions. A session begun over TLS is never sent without it, and no other host can set its cookie."""

    def get_cookie_name(self, app: flask.Flask) -> str:
        name = super().get_cookie_name(app)
        return HOST_PREFIX + name if flask.request.is_secure else name

    def get_cookie_domain(self, app: flask.Flask) -> str | None:
        return None if flask.request.is_secure else super().get_cookie_domain(app)

    def get_cookie_path(self, app: flask.Flask) -> str:
        return "/" if flask.request.is_secure else super().get_cookie_path(app)

    def get_cookie_secure(self, app: flask.Flask) -> bool:
        return flask.request.is_secure or super().get_cookie_secure(app)
