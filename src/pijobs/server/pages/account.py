"""The user's own account: its open sessions, and the prompt for the password."""

from __future__ import annotations

import flask
from werkzeug.wrappers import Response

from pijobs.server.api import ApiError
from pijobs.server.audited import audit
from pijobs.server.auth import factors, sessions, verified
from pijobs.server.host import host_sign_in
from pijobs.server.pages.languages import _
from pijobs.server.pages.sign_in import sign_out
from pijobs.server.pages.web_session import Visitor, own_path, requires, say


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/account")(account)
    blueprint.post("/account/end")(end)
    blueprint.post("/account/end-all")(end_all)
    blueprint.get("/prove")(prove)
    blueprint.post("/prove", endpoint="try_to_prove")(try_to_prove)


@requires("helpdesk")
def account() -> str:
    """List your sessions."""
    name = _visitor().name
    own, mine = sessions().list(name), None if host_sign_in() is not None else factors()
    return flask.render_template(
        "pijobs/account.html", sessions=own, own=mine is not None,
        factors=mine.of_account(name) if mine else [], codes=mine.recovery_codes_left(name) if mine else 0,
    )  # fmt: skip


@requires("helpdesk")
def end() -> Response:
    """End one of your sessions."""
    visitor, id = _visitor(), flask.request.form.get("id", "")
    ended = sessions().end(visitor.name, id)
    audit("session.end")
    if visitor.session is not None and id == visitor.session.id:
        return sign_out()
    say(_("The session has ended.") if ended else _("This session had already ended."), "good" if ended else "warn")
    return flask.redirect(flask.url_for(".account"), 303)


@requires("helpdesk")
def end_all() -> Response:
    """Sign out everywhere, including here."""
    sessions().end_all(_visitor().name)
    audit("sign-out", on="everywhere")
    return sign_out()


@requires("helpdesk")
def prove() -> str:
    """Ask for the password again, before an action that a stolen session must not do."""
    return flask.render_template("pijobs/prove.html", target=own_path(flask.request.args.get("next")), fault="")


@requires("helpdesk")
def try_to_prove() -> tuple[str, int] | Response:
    """Continue, if the password is right."""
    form, visitor = flask.request.form, _visitor()
    target = own_path(form.get("next"))
    try:
        found = verified(visitor.name, form.get("password", ""), "prove")
    except ApiError as error:
        fault = _("That is not your password.") if error.status == 401 else f"{error.message}."
        return flask.render_template("pijobs/prove.html", target=target, fault=fault), error.status
    if visitor.session is not None and found.name == visitor.name:
        sessions().prove(visitor.session)
    return flask.redirect(target, 303)


def _visitor() -> Visitor:
    visitor: Visitor = flask.g.pijobs_visitor
    return visitor
