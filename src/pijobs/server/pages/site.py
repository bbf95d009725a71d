"""The pages as a blueprint, for the server that ships with pijobs or any Flask app."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import flask
from werkzeug.exceptions import HTTPException

import pijobs.server.pages.jobs as job_pages
from pijobs.base.redact import describe, redact
from pijobs.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DefinitionError,
    DefinitionNotFound,
    InstanceNotFound,
    QueueUnavailable,
    StateConflict,
    StorageUnavailable,
)
from pijobs.factory import Installation
from pijobs.flask import EXTENSION
from pijobs.plugins.hookspecs import Page
from pijobs.server.api import ApiError
from pijobs.server.host import HOST_SIGN_IN
from pijobs.server.pages import (
    account,
    audit,
    bulk,
    events,
    looks,
    overview,
    people,
    schedule,
    second_factor,
    sign_in,
    tokens,
    workers,
)
from pijobs.server.pages import formatting as words
from pijobs.server.pages.languages import LANGUAGES, Languages, _, folders, language, plural
from pijobs.server.pages.summary import Topic
from pijobs.server.pages.web_session import (
    PAGES,
    Authorize,
    Problem,
    Visitor,
    check_form_token,
    form_token,
    is_from_script,
    reload_page,
    take_messages,
)
from pijobs.server.rights import RIGHT

log = logging.getLogger(__name__)

STATIC_MAX_AGE = 3600  # seconds
#: Endpoints whose answers browsers may cache.
_CACHEABLE = tuple(f"{PAGES}.{name}" for name in ("file", "logo", "colours"))
_PREFIX = re.compile(r"(/[\w.~-]+)+")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_STATUS: dict[type[Exception], int] = {
    DefinitionError: 400,
    DefinitionNotFound: 404,
    StateConflict: 409,
    StorageUnavailable: 503,
    QueueUnavailable: 503,
    DatabaseUnavailable: 503,
}


class PageBlueprint(flask.Blueprint):
    """Pages of a plugin, which ``register_blueprints`` returns with its other blueprints.

    They are registered below the pages of pijobs, and get their sign-in, form tokens, headers and navigation. Mark
    views with :func:`~pijobs.server.pages.requires`; templates extend ``pijobs/page.html``.
    """


@dataclass
class Site:
    """The pages of one app. :ivar authorize: None: users sign in with accounts of pijobs."""

    installation: Installation
    authorize: Authorize | None

    @cached_property
    def entries(self) -> Sequence[tuple[str, str, Page]]:
        """The navigation: title, endpoint and entry. Logs and skips entries of plugins with an unknown endpoint."""
        own = [
            Page(title, title.lower())
            for title in ("Overview", "Messages", "Jobs", "Workers", "Schedule", "Audit", "Tokens")
        ]
        entries = []
        for page, plugin in [*((one, "pijobs") for one in own), *self._pages]:
            endpoint = self._endpoint(page.endpoint)
            if endpoint is not None:
                entries.append((page.title, endpoint, page))
            elif page.endpoint and plugin != "pijobs" and flask.current_app.extensions.get(HOST_SIGN_IN) is None:
                log.error("plugin %s: expected an endpoint of the app, found %r", plugin, page.endpoint)
        return entries

    @cached_property
    def topics(self) -> Sequence[Topic]:
        """Topics of the overview's sentences: those of the plugins' pages, or else all jobs."""
        pages = [page for page, _ in self._pages if not page.endpoint or self._endpoint(page.endpoint)]
        return [Topic(page.things, page.jobs) for page in pages if page.things] or [Topic("jobs")]

    @cached_property
    def first_steps(self) -> Sequence[tuple[str, str]]:
        """Title and endpoint of the plugins' pages that send something."""
        return [(title, endpoint) for title, endpoint, page in self.entries if page.things]

    @cached_property
    def _pages(self) -> Sequence[tuple[Page, str]]:
        called = self.installation.plugins.call("register_pages")
        return [(page, name) for name, pages in called for page in _as_list(name, pages) if isinstance(page, Page)]

    @staticmethod
    def _endpoint(name: str) -> str | None:
        known = flask.current_app.view_functions
        return next((one for one in (f"{PAGES}.{name}", name) if one in known), None)


def plugin_blueprints(app: flask.Flask) -> list[tuple[str, Any]]:
    """The blueprints that plugins register, each with the plugin's name. Their type is not checked."""
    installation: Installation = app.extensions[EXTENSION]
    found = installation.plugins.call("register_blueprints", app=app)
    return [(plugin, blueprint) for plugin, blueprints in found for blueprint in _as_list(plugin, blueprints)]


def _as_list(plugin: str, given: Any) -> list[Any]:
    try:
        return list(given)
    except Exception as error:
        log.error("plugin %s: expected a list, found something else: %s", plugin, describe(error))
        return []


def add_pages(
    app: flask.Flask,
    prefix: str,
    *,
    authorize: Authorize | None = None,
    given: Sequence[tuple[str, Any]] | None = None,
) -> None:
    """Add the pages to an app that has a :class:`~pijobs.flask.JobQueue`.

    :param prefix: path of the pages, such as ``/jobqueue``.
    :param authorize: returns the role of the user; None: users sign in with accounts of ``pijobs admin``.
    :param given: the plugins' blueprints, if they are known already.
    :raises ConfigurationError: if the app has no secret key, has the pages already, or does not escape in templates.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(f"pages: expected a path such as '/jobqueue', found {prefix!r}")
    if not app.secret_key:
        raise ConfigurationError("SECRET_KEY: expected a text, found none; it signs the session of the pages")
    if PAGES in app.extensions:
        raise ConfigurationError("this app has the pages already; add them once")
    if not _escapes(app):
        raise ConfigurationError(
            "pages: expected an app whose templates escape what is put into them, found one that has turned that off "
            "(jinja_env.autoescape); a stranger's text would become markup"
        )
    installation: Installation = app.extensions[EXTENSION]
    app.extensions[PAGES] = Site(installation, authorize)
    further = installation.settings.pages_translations
    places = folders(installation.plugins, None if further is None else Path(further))
    app.extensions[LANGUAGES] = Languages(list(places))
    blueprint = _make_blueprint(app, prefix, own_accounts=authorize is None)
    for plugin, child in plugin_blueprints(app) if given is None else given:
        if isinstance(child, PageBlueprint):
            _register_below(blueprint, plugin, child)
    app.register_blueprint(blueprint)


def _escapes(app: flask.Flask) -> bool:
    escape = app.jinja_env.autoescape
    return escape("pijobs/page.html") if callable(escape) else escape


def _register_below(blueprint: flask.Blueprint, plugin: str, child: PageBlueprint) -> None:
    try:
        blueprint.register_blueprint(child)
    except Exception as error:
        log.error("plugin %s: its pages could not be registered: %s", plugin, describe(error))


def _make_blueprint(app: flask.Flask, prefix: str, *, own_accounts: bool) -> flask.Blueprint:
    blueprint = flask.Blueprint(PAGES, "pijobs.server", url_prefix=prefix, template_folder="templates")
    blueprint.get("/static/<path:name>")(file)
    for module in (looks, overview, people, job_pages, bulk, events, workers, schedule, audit):
        module.add_to(blueprint)
    if own_accounts:
        sign_in.add_to(blueprint)
        account.add_to(blueprint)
        if HOST_SIGN_IN not in app.extensions:
            second_factor.add_to(blueprint)
            if "pijobs_openapi" in app.blueprints:  # only the server's own app has routes for tokens
                tokens.add_to(blueprint)
    blueprint.before_request(check_form_token)
    blueprint.after_request(_secure)
    blueprint.context_processor(_context)
    for word, function in words.FILTERS.items():
        blueprint.add_app_template_filter(function, f"pijobs_{word}")
    blueprint.register_error_handler(Exception, _error_page)
    return blueprint


def file(name: str) -> flask.Response:
    """Style, scripts and their licences."""
    return flask.send_from_directory(f"{flask.current_app.blueprints[PAGES].root_path}/static", name)


def _context() -> dict[str, Any]:
    site: Site = flask.current_app.extensions[PAGES]
    return {
        "pijobs_visitor": flask.g.get("pijobs_visitor"),
        "pijobs_entries": site.entries,
        "pijobs_shows": _shows,
        "pijobs_own_accounts": site.authorize is None,
        "pijobs_token": form_token,
        "pijobs_said": take_messages,
        "pijobs_looks": looks.looks(),
        "pijobs_language": language(),
        "_": _,
        "plural": plural,
    }


def _shows(endpoint: str) -> bool:
    """Whether the navigation shows a page to this visitor. A viewer finds Messages on the overview, the helpdesk has no
    overview."""
    role: str = getattr(flask.current_app.view_functions[endpoint], RIGHT, "viewer")
    visitor: Visitor = flask.g.pijobs_visitor
    if endpoint in (f"{PAGES}.messages", f"{PAGES}.overview"):
        return visitor.may("viewer") == (endpoint == f"{PAGES}.overview")
    return visitor.may(role)


def _secure(response: flask.Response) -> flask.Response:
    if is_from_script() and response.location:
        # authorize redirected to the app's own sign-in, which can't replace a part of a page.
        response = reload_page()
    for name, value in _HEADERS.items():
        response.headers[name] = value
    if flask.request.endpoint in _CACHEABLE and response.status_code == 200:
        response.headers["Cache-Control"] = f"public, max-age={STATIC_MAX_AGE}"
    return response


def _error_page(error: Exception) -> tuple[str, int]:
    """A page about an error, without the details that only the log may have."""
    status, message, advice = 500, _("this page could not be created"), _("the log of the server has details")
    if isinstance(error, Problem):
        status, message, advice = error.status, error.message, error.advice
    elif isinstance(error, ApiError):
        status, message, advice = error.status, error.message, ""
    elif isinstance(error, HTTPException):
        status, message, advice = error.code or 500, error.description or error.name, ""
    elif isinstance(error, InstanceNotFound):
        status, message, advice = 404, _("there is no such instance; its record may have been removed"), ""
    elif found := next((code for kind, code in _STATUS.items() if isinstance(error, kind)), None):
        status, message, advice = found, redact(str(error)), ""
    else:
        log.error("%s %s failed", flask.request.method, flask.request.path, exc_info=error)
    return flask.render_template("pijobs/problem.html", status=status, message=message, advice=advice), status
