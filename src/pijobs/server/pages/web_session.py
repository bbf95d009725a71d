"""The user of the pages: the session, its rights, and the token of forms.

The cookie is Flask's, signed. Signing in empties our part of it and makes a new form token, so that nobody can prepare
a session for another user. The cookie has the secret of a session on the server (:mod:`pijobs.server.sessions`).

The form token takes 20 lines here; Flask-WTF would also check the forms of the app that the pages are mounted in.
"""

from __future__ import annotations

import functools
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

import flask
from werkzeug.wrappers import Response

from pijobs.server.accounts import ROLES, Account, Role
from pijobs.server.audited import audit
from pijobs.server.auth import RECENT, account_of, new_session, sessions, wants_second_factor
from pijobs.server.pages.languages import _
from pijobs.server.rights import RIGHT
from pijobs.server.sessions import Session

LONGEST_MESSAGE = 160  # characters
#: Key in ``app.extensions``, and in the session of the app.
PAGES = "pijobs_pages"
#: Name of the form field with the session's form token.
TOKEN = "csrf_token"  # noqa: S105

_ANYONE: dict[Role, str] = {
    "helpdesk": "the helpdesk", "viewer": "a viewer", "operator": "an operator", "admin": "an admin",
}  # fmt: skip

View = TypeVar("View", bound=Callable[..., Any])
#: Returns the user's role, or role and name, by the app's own sign-in; None: no access.
Authorize = Callable[[], str | tuple[str, str] | None]


class Problem(Exception):
    """An error page. :param status: HTTP status. :param message: for people, without secrets."""

    def __init__(self, status: int, message: str, advice: str = "") -> None:
        self.status, self.message, self.advice = status, message, advice
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Visitor:
    """The user and its role. :ivar session: None: the app has its own sign-in."""

    name: str
    role: Role
    session: Session | None = None

    def may(self, role: str) -> bool:
        """Whether the user's role has the rights of this role."""
        return ROLES.index(self.role) >= ROLES.index(cast(Role, role))


def requires(role: Role, *, recent: bool = False) -> Callable[[View], View]:
    """Decorate the view of a page, to let in users with this role or a higher one. Others must sign in, or are refused.

    The view finds the :class:`Visitor` in ``flask.g.pijobs_visitor``.

    :param recent: ask for the password if it was given more than :data:`~pijobs.server.auth.RECENT` seconds ago. No
        effect if the app has its own sign-in.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            visitor = present_visitor()
            if visitor is None:
                return _ask_to_sign_in()
            flask.g.pijobs_visitor = visitor
            if not visitor.may(role):
                audit("access", "refused", on=f"{flask.request.method} {flask.request.path}")
                has = {"role": _(role), "name": visitor.name, "own": _(visitor.role)}
                raise Problem(403, _("this needs the role {role}; {name} has the role {own}", **has))
            if recent and not _is_recent(visitor):
                return flask.redirect(flask.url_for(f"{PAGES}.prove", next=_return_path()), 303)
            return view(*args, **kwargs)

        setattr(guarded, RIGHT, role)
        return cast(View, guarded)

    return decorate


def _is_recent(visitor: Visitor) -> bool:
    if visitor.session is None:
        return True
    # Allow twice the time to send a form, so that nobody types a definition twice.
    seconds = RECENT if flask.request.method == "GET" else 2 * RECENT
    return sessions().is_fresh(visitor.session, seconds)


def present_visitor() -> Visitor | None:
    """The user, by the app's own sign-in or by the session; None if there is none."""
    authorize: Authorize | None = flask.current_app.extensions[PAGES].authorize
    if authorize is None:
        return _signed_in()
    answer = authorize()
    role, name = answer if isinstance(answer, tuple) else (answer, "")
    for known in ROLES:
        if role == known:
            return Visitor(name or _ANYONE[known], known)
    return None


def _signed_in() -> Visitor | None:
    session = sessions().get(_secret(), "pages")
    account = None if session is None else account_of(session)
    if session is None or account is None or not session.whole:
        return None
    if not is_from_script():  # a page left open is no activity of a person
        sessions().use(session)
    return Visitor(account.name, account.role, session)


def half_signed_in() -> tuple[Account, Session] | None:
    """The account and session of a user who has given the password, but not the second factor yet."""
    session = sessions().get(_secret(), "pages")
    account = None if session is None or session.whole else account_of(session)
    return None if session is None or account is None else (account, session)


def _secret() -> str:
    return str(_kept().get("session", ""))


def _ask_to_sign_in() -> Response:
    if is_from_script():
        return reload_page()
    if flask.current_app.extensions[PAGES].authorize is not None:
        raise Problem(
            403,
            _("you have no right to see these pages"),
            _("sign in to the application with an account that has this right"),
        )
    page = "sign_in" if half_signed_in() is None else "second_factor"
    return flask.redirect(flask.url_for(f"{PAGES}.{page}", next=_return_path()))


def _return_path() -> str | None:
    """The path to return to; for a form, the path of its page."""
    request = flask.request
    if request.method == "GET":
        return request.script_root + request.full_path.rstrip("?")
    return urlsplit(request.referrer).path if request.referrer else None


def is_from_script() -> bool:
    """Whether a script of the page sent the request."""
    return bool(flask.request.headers.get("HX-Request"))


def reload_page() -> flask.Response:
    """Make the browser reload the whole page, and so reach the sign-in."""
    return flask.Response(status=401, headers={"HX-Refresh": "true"})


def begin_session(account: Account) -> None:
    """Sign in, and drop the former session. A second factor may still be missing."""
    end_session()
    secret = new_session(account, "pages", whole=not wants_second_factor(account))
    flask.session[PAGES] = {"session": secret, "token": secrets.token_urlsafe(24)}


def end_session() -> None:
    """Sign out. Copies of the cookie become invalid, too."""
    if (session := sessions().get(_secret(), "pages")) is not None:
        sessions().end(session.name, session.id)
        audit("sign-out", who=session.name)
    flask.session.pop(PAGES, None)


def own_path(target: str | None) -> str:
    """The target if it is a path of these pages, else the first page, so that links can't redirect users elsewhere."""
    first = flask.url_for(f"{PAGES}.overview")
    if not target or not target.isprintable() or "\\" in target or ".." in unquote(target.partition("?")[0]):
        return first
    # Compare the text, not a parsed path: browsers read "///" as the begin of a host.
    return target if target.startswith(first) else first


# -- the token of forms ----------------------------------------------------------------------------------------------


def form_token() -> str:
    """The form token of this session; made on first use."""
    token: str | None = _kept().get("token")
    if token is None:
        token = secrets.token_urlsafe(24)
        keep(token=token)
    return token


def check_form_token() -> None:
    """:raises Problem: if another site or an older session sent the form."""
    if flask.request.method in ("GET", "HEAD", "OPTIONS"):
        return
    token, given = _kept().get("token"), flask.request.form.get(TOKEN, "")
    if not token or not hmac.compare_digest(token.encode(), given.encode("utf-8", "replace")):
        raise Problem(400, _("this form does not belong to your session"), _("go back, reload the page and try again"))


# -- what was done ---------------------------------------------------------------------------------------------------


def say(text: str, tone: str = "good") -> None:
    """Show a message on the next page. :param tone: ``good``, ``warn`` or ``bad``."""
    # Browsers drop a cookie above 4 KB, and with it the session.
    short = text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 1]}…"
    keep(said=[*_kept().get("said", []), [tone, short]][-3:])


def take_messages() -> list[list[str]]:
    """Remove and return the messages for this page, as (tone, text)."""
    if is_from_script() or not (said := _kept().get("said")):
        return []
    keep(said=None)
    return cast("list[list[str]]", said)


def take(name: str) -> str:
    """Remove and return a value of :func:`keep`."""
    value = str(_kept().get(name) or "")
    keep(**{name: None})
    return value


def _kept() -> dict[str, Any]:
    kept: dict[str, Any] = flask.session.get(PAGES, {})
    return kept


def keep(**values: Any) -> None:
    """Store values in the session until :func:`take`. None removes a value."""
    flask.session[PAGES] = {name: value for name, value in {**_kept(), **values}.items() if value is not None}
