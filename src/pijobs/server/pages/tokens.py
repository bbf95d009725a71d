"""Tokens for machines, for admins."""

from __future__ import annotations

import flask
from werkzeug.wrappers import Response

from pijobs.base import clock
from pijobs.flask import current_installation, current_queue
from pijobs.server.audited import audit
from pijobs.server.machines import ENQUEUE, STATUS, MachineError, Machines
from pijobs.server.pages.languages import _
from pijobs.server.pages.web_session import Problem, requires, say

#: Most days that a token may be valid.
LONGEST = 3650


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/tokens")(tokens)
    blueprint.get("/tokens/new")(new_token)
    blueprint.post("/tokens/new")(add_token)
    blueprint.post("/tokens/remove")(remove_token)


@requires("admin")
def tokens() -> str:
    """Show the tokens, with scope, expiry and last use."""
    return flask.render_template("pijobs/tokens.html", rows=_machines().list(), now=clock.time())


@requires("admin", recent=True)
def new_token() -> str:
    """Show the form for a new token."""
    return _form("")


@requires("admin", recent=True)
def add_token() -> str | tuple[str, int]:
    """Make a token, and show it once."""
    form = flask.request.form
    name, scopes, days = form.get("name", "").strip(), form.getlist("scope"), form.get("days", "")
    if not (days.isascii() and days.isdigit() and len(days) < 5 and 0 < int(days) <= LONGEST):
        return _form(_("days: expected a number from 1 to {most}", most=LONGEST)), 400
    try:
        token = _machines().add(name, scopes, int(days))
    except MachineError as error:
        return _form(str(error)), 400
    audit("token.add", on=", ".join(scopes), about=name)
    return flask.render_template("pijobs/token.html", name=name, scopes=scopes, token=token)


@requires("admin")
def remove_token() -> Response:
    """Remove a token, with immediate effect."""
    name = flask.request.form.get("name", "")
    try:
        _machines().remove(name)
    except MachineError:
        raise Problem(404, _("there is no token with this name (any more)")) from None
    audit("token.remove", about=name)
    say(_("The token {name} is removed.", name=name), "warn")
    return flask.redirect(flask.url_for(".tokens"), 303)


def _form(fault: str) -> str:
    scopes = [STATUS, *(ENQUEUE + job for job in sorted(current_queue().registry))]
    return flask.render_template("pijobs/new_token.html", scopes=scopes, fault=fault, given=flask.request.form)


def _machines() -> Machines:
    return Machines.of(current_installation().settings)
