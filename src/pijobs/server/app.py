"""The app factory of the server."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flask
import flask.logging
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response

from pijobs.base.foreign import cut
from pijobs.base.redact import describe, redact
from pijobs.database import Database
from pijobs.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DefinitionError,
    DefinitionNotFound,
    DefinitionUnreadable,
    InstanceNotFound,
    PijobsError,
    QueueUnavailable,
    StateConflict,
    StorageUnavailable,
)
from pijobs.factory import Installation
from pijobs.flask import JobQueue
from pijobs.logs.configuration import configure_log
from pijobs.observe import clear_text
from pijobs.payload.keys import SHORTEST
from pijobs.server import auth, health, jobs_api, openapi, schedule_api, switches_api
from pijobs.server.api import ApiError, error_answer, in_the_address
from pijobs.server.host import HOST_SIGN_IN, HostSignIn
from pijobs.server.pages import PageBlueprint, add_pages
from pijobs.server.pages.cookies import CarefulSessions
from pijobs.server.pages.site import plugin_blueprints
from pijobs.settings import PREFIX, config_warnings, find_config, read_config

log = logging.getLogger(__name__)

MAX_REQUEST = 1024 * 1024  # bytes
PAGES_AT = "/pages"
_SECRET = re.compile("passw|pwd|secret|token|passphrase|api[_-]?key|credential|^(otp|pin)$", re.IGNORECASE)
_CODES = {400: 905, 401: 4033, 403: 303, 404: 601}
#: HTTP status and error code of the errors that routes do not catch.
_ANSWERS: Mapping[type[PijobsError], tuple[int, int]] = {
    DefinitionError: (400, 905),
    DefinitionNotFound: (404, 601),
    DefinitionUnreadable: (500, 903),
    InstanceNotFound: (404, 601),
    StateConflict: (409, 409),
}
_UNAVAILABLE = (StorageUnavailable, QueueUnavailable, DatabaseUnavailable)


def create_app(
    config: str | os.PathLike[str] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    host_sign_in: HostSignIn | None = None,
    proxies: int = 0,
) -> flask.Flask:
    """The server of one ``pi.cfg``; for ``gunicorn 'pijobs.server:create_app()'``.

    The log goes to standard error, redacted, unless the host configured its root logger, or ``PI_LOGCONFIG`` names a
    configuration.

    :param config: path of the file; default: the file that the commands use.
    :param settings: the settings, instead of a file.
    :param host_sign_in: how the host application knows its administrators, for a server mounted in one. The server
        then has no accounts, and leaves out the plugins that the host replaces.
    :param proxies: number of reverse proxies in front of the server; each must set ``X-Forwarded-For`` and
        ``X-Forwarded-Proto``. The server then counts sign-ins by the client's address that they report, and marks
        cookies as secure when the client uses TLS.
    :raises ConfigurationError: if the settings can't be used.
    """
    settings, path = (settings, None) if settings is not None else _read(config)
    if not settings.get("SECRET_KEY"):
        raise ConfigurationError("SECRET_KEY: expected a text, found none; the server signs its tokens with it")
    if host_sign_in is None:
        _refuse_short_keys(settings)
    app = flask.Flask("pijobs.server", static_folder=None)
    app.config.update(settings)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST
    installation = JobQueue().init_app(app, directory=Path.cwd() if path is None else path.parent, file=path)
    for module in (health, jobs_api, switches_api, schedule_api, openapi):
        app.register_blueprint(module.blueprint)
    if host_sign_in is None:
        _stand_alone(app, installation)
    else:
        app.extensions[HOST_SIGN_IN] = host_sign_in
    replaced = () if host_sign_in is None else host_sign_in.replaces
    given = [(plugin, blueprint) for plugin, blueprint in plugin_blueprints(app) if plugin not in replaced]
    for plugin, blueprint in given:
        _register(app, plugin, blueprint)
    app.session_interface = CarefulSessions()
    app.config.update(SESSION_COOKIE_NAME="pijobs", SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Lax")
    add_pages(app, PAGES_AT, given=given)
    app.add_url_rule("/", view_func=first_page)
    app.before_request(_refuse_secrets_in_the_address)
    _handle_errors(app)
    app.after_request(_secure)
    if proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]
    return app


def _refuse_short_keys(settings: Mapping[str, Any]) -> None:
    """:raises ConfigurationError: if a key is too short. The keys sign sessions and encrypt waiting jobs."""
    keys = settings.get(PREFIX + "KEYS")
    newest = keys[0] if isinstance(keys, (list, tuple)) and keys else None
    for name, key in (("SECRET_KEY", settings["SECRET_KEY"]), (f"{PREFIX}KEYS", newest)):
        if not isinstance(key, (str, bytes)):
            continue
        size = len(key.encode("utf-8", "replace") if isinstance(key, str) else key)
        if size < SHORTEST:
            raise ConfigurationError(
                f"{name}: expected at least {SHORTEST} bytes, found {size}; make one by: openssl rand -hex 32. "
                f"{PREFIX}KEYS = [new, old] still reads what the old key encrypted"
            )


def _refuse_secrets_in_the_address() -> None:
    """Refuse a secret in the URL: logs, browser histories and proxies keep URLs.

    :raises ApiError: unless the route must take one there (attribute ``secret_in_address`` of its view).
    """
    view = flask.current_app.view_functions.get(flask.request.endpoint or "")
    if getattr(view, "secret_in_address", False):
        return
    for name in flask.request.args:
        if _SECRET.search(cut(name, 200)):
            raise in_the_address(name)


def first_page() -> Response:
    """Redirect to the pages."""
    return flask.redirect(flask.url_for("pijobs_pages.overview"))


def _read(config: str | os.PathLike[str] | None) -> tuple[Mapping[str, Any], Path]:
    path = find_config(config)
    for message, advice in config_warnings(path):
        log.warning("%s; %s", message, advice)
    return read_config(path), path


def _stand_alone(app: flask.Flask, installation: Installation) -> None:
    """Set up what a host otherwise provides: the log and the accounts."""
    Database.of(installation.settings)  # reports an invalid URL now; does not connect yet
    clear_text.refuse(installation.settings, queue=installation.queue.storage is not None)
    if not logging.getLogger().handlers:
        # gunicorn configures only its own loggers.
        configure_log(installation.settings, None)
        app.logger.removeHandler(flask.logging.default_handler)
    app.register_blueprint(auth.blueprint)


def _register(app: flask.Flask, plugin: str, blueprint: Any) -> None:
    if isinstance(blueprint, PageBlueprint):
        return  # add_pages registers it
    try:
        app.register_blueprint(blueprint)
    except Exception as error:
        log.error("plugin %s: its routes could not be registered: %s", plugin, describe(error))


def _handle_errors(app: flask.Flask) -> None:
    @app.errorhandler(ApiError)
    def api_error(error: ApiError) -> flask.Response:
        return error_answer(error.status, error.code, error.message)

    def by_type(error: PijobsError) -> flask.Response:
        status, code = next(answer for kind, answer in _ANSWERS.items() if isinstance(error, kind))
        return error_answer(status, code, str(error))

    def unavailable(error: PijobsError) -> flask.Response:
        log.error("%s", error)
        return error_answer(503, 503, redact(str(error)))

    for kind in _ANSWERS:
        app.register_error_handler(kind, by_type)
    for kind in _UNAVAILABLE:
        app.register_error_handler(kind, unavailable)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> flask.Response:
        status = error.code or 500
        return error_answer(status, _CODES.get(status, status), error.description or error.name)

    @app.errorhandler(Exception)
    def internal(error: Exception) -> flask.Response:
        log.error("%s %s failed", flask.request.method, flask.request.path, exc_info=error)
        return error_answer(500, -500, "internal error; see the server's log")


def _secure(response: flask.Response) -> flask.Response:
    """Forbid frames, caching and content sniffing."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response
