"""Who looks at the pages: the session, what it may do, and the token that each form must bring back.

The cookie is Flask's, signed. Our part of it is emptied at sign-in and gets a new token there, so that nobody can
prepare one for somebody else. It carries the secret of a session that is kept on the server
(:mod:`pijobs.server.sessions`), like the tokens of the API.

The token of forms is 20 lines of our own: Flask-WTF's would ask the app that the pages are mounted in for its, too.
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

from pijobs.flask import current_installation
from pijobs.server.accounts import ROLES, Account, Role
from pijobs.server.audited import audit
from pijobs.server.auth import RECENT, account_of, new_session, wants_second_factor
from pijobs.server.pages.languages import _
from pijobs.server.rights import RIGHT
from pijobs.server.sessions import Session, Sessions

LONGEST_SAID = 160  # characters
#: Key in ``app.extensions``, and in the session of the app.
PAGES = "pijobs_pages"
#: Name of the form field that carries the session's token.
TOKEN = "csrf_token"  # noqa: S105

_SOMEBODY: dict[Role, str] = {
    "helpdesk": "the helpdesk", "viewer": "a viewer", "operator": "an operator", "admin": "an admin",
}  # fmt: skip

View = TypeVar("View", bound=Callable[..., Any])
#: Tells the role of whoever asks, or role and name, by the app's own means; None: may not look.
Authorize = Callable[[], str | tuple[str, str] | None]


class Problem(Exception):
    """A page that tells what is wrong. :param status: of HTTP. :param message: for people, without secrets."""

    def __init__(self, status: int, message: str, advice: str = "") -> None:
        self.status, self.message, self.advice = status, message, advice
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, with a role. :ivar session: None: the app signs people in by its own means."""

    name: str
    role: Role
    session: Session | None = None

    def may(self, role: str) -> bool:
        """Each role may do what those before it may."""
        return ROLES.index(self.role) >= ROLES.index(cast(Role, role))


def requires(role: Role, *, recent: bool = False) -> Callable[[View], View]:
    """The view of a page for those with this role, or one that may do more. Others are asked to sign in, or refused.

    The :class:`Visitor` stands in ``flask.g.pijobs_visitor`` then.

    :param recent: who gave the password longer ago than :data:`~pijobs.server.auth.RECENT` is asked for it again. Only
        where people sign in here: another app's sign-in is its own matter.
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
                return flask.redirect(flask.url_for(f"{PAGES}.prove", next=_asked()), 303)
            return view(*args, **kwargs)

        setattr(guarded, RIGHT, role)
        return cast(View, guarded)

    return decorate


def _is_recent(visitor: Visitor) -> bool:
    if visitor.session is None:
        return True
    # What was opened in time may be sent a little later: nobody types a definition twice.
    seconds = RECENT if flask.request.method == "GET" else 2 * RECENT
    return Sessions.of(current_installation().settings).is_fresh(visitor.session, seconds)


def present_visitor() -> Visitor | None:
    """Who asks, by the app's own means or by the session."""
    authorize: Authorize | None = flask.current_app.extensions[PAGES].authorize
    if authorize is None:
        return _signed_in()
    answer = authorize()
    role, name = answer if isinstance(answer, tuple) else (answer, "")
    for known in ROLES:
        if role == known:
            return Visitor(name or _SOMEBODY[known], known)
    return None


def _signed_in() -> Visitor | None:
    sessions = Sessions.of(current_installation().settings)
    session = sessions.get(_secret(), "pages")
    account = None if session is None else account_of(session)
    if session is None or account is None or not session.whole:
        return None
    if not renews_itself():  # a page that somebody left open is no sign of that person
        sessions.use(session)
    return Visitor(account.name, account.role, session)


def half_signed_in() -> tuple[Account, Session] | None:
    """Whose password was right, and whose second factor is still to come."""
    session = Sessions.of(current_installation().settings).get(_secret(), "pages")
    account = None if session is None or session.whole else account_of(session)
    return None if session is None or account is None else (account, session)


def _secret() -> str:
    return str(_kept().get("session", ""))


def _ask_to_sign_in() -> Response:
    if renews_itself():
        return load_anew()
    if flask.current_app.extensions[PAGES].authorize is not None:
        raise Problem(
            403,
            _("you have no right to see these pages"),
            _("sign in to the application with an account that has this right"),
        )
    page = "sign_in" if half_signed_in() is None else "second_factor"
    return flask.redirect(flask.url_for(f"{PAGES}.{page}", next=_asked()))


def _asked() -> str | None:
    """Where to lead back; a form leads to the page that it stands on."""
    request = flask.request
    if request.method == "GET":
        return request.script_root + request.full_path.rstrip("?")
    return urlsplit(request.referrer).path if request.referrer else None


def renews_itself() -> bool:
    """Whether it is not the browser that asks, but a page."""
    return bool(flask.request.headers.get("HX-Request"))


def load_anew() -> flask.Response:
    """Lets a page that renews itself make the browser load the whole of it, which comes to the sign-in by that."""
    return flask.Response(status=401, headers={"HX-Refresh": "true"})


def begin_session(account: Account) -> None:
    """Sign in; half, where a second factor is still to come. What the session held before is gone."""
    end_session()
    secret = new_session(account, "pages", whole=not wants_second_factor(account))
    flask.session[PAGES] = {"session": secret, "token": secrets.token_urlsafe(24)}


def end_session() -> None:
    """Sign out: the session is over, whoever has a copy of its cookie."""
    sessions = Sessions.of(current_installation().settings)
    if (session := sessions.get(_secret(), "pages")) is not None:
        sessions.end(session.name, session.id)
        audit("sign-out", who=session.name)
    flask.session.pop(PAGES, None)


def own_path(target: str | None) -> str:
    """The target, if it is a path of these pages, else their first one: nobody is sent elsewhere after signing in."""
    first = flask.url_for(f"{PAGES}.overview")
    if not target or not target.isprintable() or "\\" in target or ".." in unquote(target.partition("?")[0]):
        return first
    # The text itself, and not the path that a parser finds in it: browsers take "///" for the begin of a host.
    return target if target.startswith(first) else first


# -- the token of forms ----------------------------------------------------------------------------------------------


def form_token() -> str:
    """The token of this session; made when a form first needs it."""
    token: str | None = _kept().get("token")
    if token is None:
        token = secrets.token_urlsafe(24)
        _keep(token=token)
    return token


def check_form_token() -> None:
    """:raises Problem: for a form that another site, or an older session, sent."""
    if flask.request.method in ("GET", "HEAD", "OPTIONS"):
        return
    token, given = _kept().get("token"), flask.request.form.get(TOKEN, "")
    if not token or not hmac.compare_digest(token.encode(), given.encode("utf-8", "replace")):
        raise Problem(400, _("this form does not belong to your session"), _("go back, reload the page and try again"))


# -- what was done ---------------------------------------------------------------------------------------------------


def say(text: str, tone: str = "good") -> None:
    """Tell it on the next page. :param tone: ``good``, ``warn`` or ``bad``."""
    # Browsers drop a cookie above 4 KB, and the session with it.
    short = text if len(text) <= LONGEST_SAID else f"{text[: LONGEST_SAID - 1]}…"
    _keep(said=[*_kept().get("said", []), [tone, short]][-3:])


def take_said() -> list[list[str]]:
    """What is to be told on this page; (tone, text) each."""
    if renews_itself() or not (said := _kept().get("said")):
        return []
    _keep(said=None)
    return cast("list[list[str]]", said)


def keep(**values: Any) -> None:
    """Keep something in the session until :func:`take`."""
    _keep(**values)


def take(name: str) -> str:
    """What was kept, once."""
    value = str(_kept().get(name) or "")
    _keep(**{name: None})
    return value


def _kept() -> dict[str, Any]:
    kept: dict[str, Any] = flask.session.get(PAGES, {})
    return kept


def _keep(**values: Any) -> None:
    flask.session[PAGES] = {name: value for name, value in {**_kept(), **values}.items() if value is not None}
