"""Signing in to the pages, with an account of ``pijobs admin``."""

from __future__ import annotations

import flask
from werkzeug.wrappers import Response

from pijobs.server.api import ApiError
from pijobs.server.auth import verified
from pijobs.server.pages.languages import _
from pijobs.server.pages.web_session import begin_session, end_session, half_signed_in, own_path, present_visitor


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/sign-in")(sign_in)
    blueprint.post("/sign-in", endpoint="try_to_sign_in")(try_to_sign_in)
    blueprint.post("/sign-out")(sign_out)


def sign_in() -> str | Response:
    """Show the form for name and password."""
    target = own_path(flask.request.args.get("next"))
    if present_visitor() is not None:
        return flask.redirect(target)
    return flask.render_template("pijobs/sign_in.html", target=target, name="", fault="")


def try_to_sign_in() -> tuple[str, int] | Response:
    """Begin a session."""
    form = flask.request.form
    target, name = own_path(form.get("next")), form.get("username", "")
    try:
        account = verified(name, form.get("password", ""))
    except ApiError as error:
        fault = _("Name or password is wrong.") if error.status == 401 else f"{error.message}."
        page = flask.render_template("pijobs/sign_in.html", target=target, name=name[:64], fault=fault)
        return page, error.status
    begin_session(account)
    if half_signed_in() is not None:
        target = flask.url_for(".second_factor", next=target)
    return flask.redirect(target, 303)


def sign_out() -> Response:
    """End the session."""
    end_session()
    return flask.redirect(flask.url_for(".sign_in"), 303)
