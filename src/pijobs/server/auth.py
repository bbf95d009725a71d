"""Signing in: ``POST /auth`` gives a token that later requests send in the ``Authorization`` header.

A token is a session on the server (:mod:`pijobs.server.sessions`). It ends an hour after the sign-in, after half an
hour without a request, by ``DELETE /auth``, and when the account's password or role changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import flask

from pijobs.flask import current_installation
from pijobs.server.accounts import Account, Accounts
from pijobs.server.api import ApiError, answer, parameters, required
from pijobs.server.audited import audit
from pijobs.server.described import Parameter, takes
from pijobs.server.factors import Factors
from pijobs.server.host import HostSignIn, host_sign_in
from pijobs.server.lockout import Tries, known_device, remember_device
from pijobs.server.machines import BEGIN, Machine, Machines
from pijobs.server.sessions import LIFETIMES, Kind, Session, Sessions

#: Seconds after a sign-in in which the user may change destinations and secrets; after them the user signs in again.
RECENT = 15 * 60
LIFETIME = LIFETIMES["token"]

blueprint = flask.Blueprint("pijobs_auth", __name__)


@blueprint.post("/auth")
@takes(
    Parameter("username", "name of the account", required=True),
    Parameter("password", required=True),
    Parameter("otp", "a code of the second factor, or a recovery code"),
)
def sign_in() -> flask.Response:
    """A token for a name and password. Accounts with a second factor also send ``otp``, an app's or a recovery code."""
    if "password" in flask.request.args:
        raise ApiError(400, 905, "expected the password in the body, found it in the URL, which is written to logs")
    values = parameters()
    account = verified(required(values, "username"), required(values, "password"))
    if wants_second_factor(account):
        check_code(account.name, required(values, "otp"))
    token = new_session(account, "token")
    return answer({"token": token, "username": account.name, "role": account.role})


@blueprint.delete("/auth")
@takes(Parameter("everywhere", "end all sessions of the account", "boolean"))
def sign_out() -> flask.Response:
    """End the token; with ``everywhere``, all sessions of its account, also on the pages."""
    account, session = signed_in()
    everywhere = parameters().get("everywhere") in (True, "1", "true")
    audit("sign-out", who=account.name, on="everywhere" if everywhere else "")
    ended = sessions().end_all(account.name) if everywhere else int(sessions().end(account.name, session.id))
    return answer({"ended": ended})


def verified(name: str, password: str, act: str = "sign-in") -> Account:
    """The account, if the password is right. Counts failed tries, and records the result in the audit log.

    :param act: its name in the audit log.
    :raises ApiError: (401) if the password is wrong, (429) after too many tries.
    """
    settings = current_installation().settings
    tries, address, device = settings.resource(Tries, Tries), flask.request.remote_addr or "", known_device(name)
    try:
        tries.begin(name, address, device)
        host = host_sign_in()
        account = Accounts.of(settings).verify(name, password) if host is None else host.by_password(name, password)
        if account is None:
            raise ApiError(401, 4031, "wrong credentials")
    except ApiError as error:
        audit(act, "refused", who=name, reason=error.message)
        raise
    tries.succeed(name, address, device)
    remember_device(name)
    audit(act, who=account.name)
    return account


def wants_second_factor(account: Account) -> bool:
    """Whether the account needs a second factor. A host application checks its own second factors."""
    return host_sign_in() is None and factors().is_wanted(account.name)


def factors() -> Factors:
    """The second factors of this installation's accounts."""
    return Factors.of(current_installation().settings)


def sessions() -> Sessions:
    """The sessions of this installation's accounts."""
    return Sessions.of(current_installation().settings)


def check_code(name: str, code: str) -> None:
    """Check a code of an app or a recovery code. Each code is valid once.

    :raises ApiError: (401) if it is wrong, (429) after too many tries.
    """
    with counted_code(name):
        if factors().takes(name, code) is None:
            raise ApiError(401, 4031, "wrong code")


@contextmanager
def counted_code(name: str) -> Iterator[None]:
    """Count a try of a second factor, by account only: the client has already given the right password.

    :raises ApiError: (429) after too many.
    """
    tries = current_installation().settings.resource(Tries, Tries)
    try:
        tries.begin(name, "", "second factor")
        yield
    except ApiError as error:
        audit("second-factor", "refused", who=name, reason=error.message)
        raise
    tries.succeed(name, "", "second factor")
    audit("second-factor", who=name)


def new_session(account: Account, kind: Kind, *, whole: bool = True) -> str:
    """Begin a session after the password was right. Returns the session's secret.

    :param whole: False: the client must still give the second factor.
    """
    # A host's own tokens live as long.
    lifetime = None if host_sign_in() is None else LIFETIME
    return sessions().begin(
        account.name, fingerprint(account), kind, address=flask.request.remote_addr or "", agent=_agent(),
        lifetime=lifetime, whole=whole,
    )  # fmt: skip


def signed_in() -> tuple[Account, Session]:
    """The account of the request's token, and the token's session.

    :raises ApiError: (401) without a token, or with an invalid one.
    """
    token = _given_token()
    if not token:
        raise ApiError(401, 4033, "sign in first: POST /auth, then send the token in the Authorization header")
    host = host_sign_in()
    found = _by_token(token) if host is None else _by_token_of(host, token)
    if found is None:
        who = "" if host is None else "not one of an administrator, or "
        raise ApiError(401, 4033, f"the token is {who}not valid any more; sign in again")
    sessions().use(found[1])
    return found


def present_machine() -> Machine | None:
    """The machine of the request's token; None for no token, or a token of a person.

    :raises ApiError: (401) if the token has expired or was removed.
    """
    token = _given_token()
    if not token.startswith(BEGIN):
        return None
    machine = Machines.of(current_installation().settings).get(token)
    if machine is None:
        raise ApiError(401, 4033, "the token is not valid any more; 'pijobs admin token add' makes another")
    return machine


def _given_token() -> str:
    headers = flask.request.headers
    return (headers.get("Authorization") or headers.get("PI-Authorization") or "").removeprefix("Bearer ").strip()


def _by_token(token: str) -> tuple[Account, Session] | None:
    session = sessions().get(token, "token")
    account = None if session is None else account_of(session)
    return None if session is None or account is None else (account, session)


def _by_token_of(host: HostSignIn, token: str) -> tuple[Account, Session] | None:
    """The first use of a host's token creates a session, so that we can end it."""
    account = host.by_token(token)
    if account is None:
        return None
    first = (account.name, fingerprint(account), flask.request.remote_addr or "", _agent())
    session = sessions().adopt(token, first)
    return None if session is None or session.fingerprint != fingerprint(account) else (account, session)


def account_of(session: Session) -> Account | None:
    """The current account of a session; None if its password or role has changed since the sign-in."""
    host = host_sign_in()
    if host is None:
        account = Accounts.of(current_installation().settings).get(session.name)
    else:
        account = host.present(session.name)
    return None if account is None or session.fingerprint != fingerprint(account) else account


def fingerprint(account: Account) -> str:
    """A hash that changes with the password or the role, and so ends the account's sessions."""
    return hashlib.sha256(f"{account.password_hash}\0{account.role}".encode()).hexdigest()[:32]


def _agent() -> str:
    return str(flask.request.user_agent)
