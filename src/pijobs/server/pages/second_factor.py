"""The second factor: the prompt after the password, and its setup and removal by the owner."""

from __future__ import annotations

import flask
from werkzeug.wrappers import Response

from pijobs.errors import ConfigurationError
from pijobs.flask import current_installation
from pijobs.server import security_keys
from pijobs.server.api import ApiError
from pijobs.server.audited import audit
from pijobs.server.auth import check_code, counted_code, factors, sessions
from pijobs.server.factors import SECURITY_KEY, extra
from pijobs.server.pages.languages import _
from pijobs.server.pages.web_session import (
    Problem,
    half_signed_in,
    keep,
    own_path,
    present_visitor,
    requires,
    say,
    take,
)
from pijobs.server.sessions import Session

Answer = str | tuple[str, int] | Response


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/second-factor")(second_factor)
    blueprint.post("/second-factor", endpoint="try_second_factor")(try_second_factor)
    blueprint.get("/factors/new")(set_up)
    blueprint.post("/factors/add", endpoint="add_factor")(add_factor)
    blueprint.post("/factors/remove", endpoint="remove_factor")(remove_factor)
    blueprint.post("/factors/codes")(recovery_codes)


def second_factor() -> Answer:
    """Ask for the second factor. An account without the required factor sets one up."""
    half = half_signed_in()
    if half is None:
        return flask.redirect(flask.url_for(".sign_in"))
    name, target = half[0].name, own_path(flask.request.args.get("next"))
    return _ask(name, target) if factors().of_account(name) else _offer(name, target)


def try_second_factor() -> Answer:
    """Sign in, if the code or key is right."""
    half, form = half_signed_in(), flask.request.form
    if half is None:
        return flask.redirect(flask.url_for(".sign_in"), 303)
    (account, session), target = half, own_path(form.get("next"))
    try:
        if answer := form.get("credential"):
            with counted_code(account.name):
                if not security_keys.proves(factors(), account.name, answer, take("challenge"), flask.request.host_url):
                    raise ApiError(401, 4031, "the key is not one of this account")
        else:
            check_code(account.name, form.get("code", ""))
    except ApiError as error:
        fault = _("This code is wrong, or was already used.") if error.status == 401 else f"{error.message}."
        return _ask(account.name, target, fault), error.status
    sessions().prove(session)
    return flask.redirect(target, 303)


@requires("helpdesk", recent=True)
def set_up() -> Answer:
    """Show the form for an app or a security key."""
    return _offer(flask.g.pijobs_visitor.name, flask.url_for(".account"))


def add_factor() -> Answer:
    """Add an app or a key, after a check that it works. The first one also gives recovery codes."""
    name, session, half = _owner()
    form, first, target = flask.request.form, not factors().of_account(name), own_path(flask.request.form.get("next"))
    label = " ".join(form.get("label", "").split())[:60]
    if answer := form.get("credential"):
        added = security_keys.add(
            factors(), name, label or "security key", answer, take("challenge"), flask.request.host_url
        )
    else:
        secret = take("totp")
        added = bool(secret) and factors().add_totp(name, label or "app", secret, "".join(form.get("code", "").split()))
    if not added:
        return _offer(name, target, "That did not fit. Try again, with the new code or key."), 400
    audit("factor.add", who=name, on="security key" if answer else "app")
    if half:
        sessions().prove(session)
    if not first:
        say(_("The second factor is added."))
        return flask.redirect(target, 303)
    return _show_codes(name, target)


@requires("helpdesk", recent=True)
def remove_factor() -> Response:
    """Remove one of your second factors. The last one can't be removed if one is required."""
    name = flask.g.pijobs_visitor.name
    if len(factors().of_account(name)) == 1 and factors().is_required(name):
        raise Problem(409, _("this account must have a second factor"), _("add another one first"))
    if factors().remove(name, flask.request.form.get("id", "")):
        audit("factor.remove")
        say(_("The second factor is removed."), "warn")
    return flask.redirect(flask.url_for(".account"), 303)


@requires("helpdesk", recent=True)
def recovery_codes() -> Answer:
    """Replace the recovery codes."""
    name = flask.g.pijobs_visitor.name
    if not factors().of_account(name):
        raise Problem(409, _("recovery codes stand in for a second factor, and there is none"), _("add one first"))
    return _show_codes(name, flask.url_for(".account"))


def _owner() -> tuple[str, Session, bool]:
    """The account that adds a factor, its session, and whether the second factor of that session is missing.

    :raises Problem: if the user is not signed in, not recently, or has not given an existing second factor.
    """
    half = half_signed_in()
    if half is not None and not factors().of_account(half[0].name):
        return half[0].name, half[1], True
    visitor = present_visitor()
    if visitor is None or visitor.session is None:
        raise Problem(403, _("sign in first"), _("with the second factor of the account"))
    if not sessions().is_fresh(visitor.session, 1800):
        raise Problem(403, _("sign in again first"), _("give your password again before you add a second factor"))
    flask.g.pijobs_visitor = visitor
    return visitor.name, visitor.session, False


def _require_extra() -> None:
    """:raises Problem: if ``pijobs[second-factor]`` is not installed."""
    try:
        for module in ("pyotp", "segno", "webauthn"):
            extra(module)
    except ConfigurationError as error:
        raise Problem(409, str(error)) from None


def _ask(name: str, target: str, fault: str = "") -> str:
    options = ""
    _require_extra()
    if any(one.kind == SECURITY_KEY for one in factors().of_account(name)):
        options, challenge = security_keys.options_to_prove(factors(), name, flask.request.host_url)
        keep(challenge=challenge)
    return flask.render_template("pijobs/second_factor.html", name=name, target=target, fault=fault, options=options)


def _offer(name: str, target: str, fault: str = "") -> str:
    _require_extra()
    secret, title = extra("pyotp").random_base32(), str(current_installation().queue.settings.name)
    options, challenge = security_keys.options_to_add(factors(), name, flask.request.host_url, title)
    keep(totp=secret, challenge=challenge)
    address = extra("pyotp").TOTP(secret).provisioning_uri(name=name, issuer_name=f"pijobs {title}")
    drawing = extra("segno").make(address).svg_inline(scale=4, light="#fff", border=3)
    return flask.render_template(
        "pijobs/set_up_factor.html", name=name, target=target, fault=fault, secret=secret, address=address,
        drawing=drawing, options=options,
    )  # fmt: skip


def _show_codes(name: str, target: str) -> str:
    codes = factors().new_recovery_codes(name)
    audit("factor.recovery-codes", who=name)
    return flask.render_template("pijobs/recovery_codes.html", codes=codes, target=target)
