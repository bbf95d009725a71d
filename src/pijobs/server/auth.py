"""Signing in: ``POST /auth`` gives a token that later requests send in the ``Authorization`` header.

A token is signed with ``SECRET_KEY``, holds for an hour, and is bound to the stored password hash and role: an account
that is removed or changed is out at once.

Failed tries are counted in the memory of the process, not in the database, which a guesser could fill: with several
server processes each counts for itself, so that there are as many times more tries.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import flask
from itsdangerous import BadSignature, URLSafeTimedSerializer

from pijobs.flask import current_installation
from pijobs.server.accounts import Account, Accounts
from pijobs.server.api import ApiError, answer, parameters, required

LIFETIME = 3600  # seconds
WINDOW = 300.0  # seconds in which failed tries count
#: Failed tries in the window. The bounds of an account and of an address alone are wide: a guesser must not lock out
#: an admin who sits elsewhere, and behind a proxy that is not told to Flask everybody has the same address.
MOST_OF_BOTH, MOST_OF_ADDRESS, MOST_OF_ACCOUNT = 10, 100, 100
_SALT = "pijobs server token"

#: Key of ``app.extensions`` for the :class:`HostSignIn`, where the server is mounted in somebody else's.
HOST_SIGN_IN = "pijobs_host_sign_in"

blueprint = flask.Blueprint("pijobs_auth", __name__)


@dataclass(frozen=True)
class HostSignIn:
    """How a host knows its administrators. Each function gives the name of one, or None.

    :param by_token: of the host.
    :param by_password: name and password.
    :param still: whether one who signed in to the pages is an administrator yet; asked for each page.
    """

    by_token: Callable[[str], str | None]
    by_password: Callable[[str, str], str | None]
    still: Callable[[str], bool] = lambda name: True

    @staticmethod
    def account(name: str | None) -> Account | None:
        """An account with this name, which no database knows."""
        return None if name is None else Account(name, "", "admin", 0)

    def present(self, name: str) -> Account | None:
        """The account of somebody who signed in, unless that is no administrator any more."""
        return self.account(name if self.still(name) else None)


def host_sign_in() -> HostSignIn | None:
    """That of the present app; None where it has accounts of its own."""
    host: HostSignIn | None = flask.current_app.extensions.get(HOST_SIGN_IN)
    return host


class Tries:
    """The tries to sign in of the last minutes, but for those that succeeded.

    :param monotonic: seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._times: dict[tuple[str, ...], deque[float]] = {}
        self._lock = threading.Lock()
        self._monotonic = monotonic

    def begin(self, name: str, address: str) -> None:
        """Count a try before its password is looked at, so that many at the same moment gain nothing.

        :raises ApiError: (429) after too many.
        """
        with self._lock:
            self._forget()
            bounds = dict(_bounds(name, address))
            if any(len(self._times.get(who, ())) >= most for who, most in bounds.items()):
                raise ApiError(429, 429, f"too many failed tries to sign in; wait {WINDOW / 60:.0f} minutes")
            for who in bounds:
                self._times.setdefault(who, deque()).append(self._monotonic())

    def succeed(self, name: str, address: str) -> None:
        """Take back what :meth:`begin` counted."""
        with self._lock:
            for who, _ in _bounds(name, address):
                if times := self._times.get(who):
                    times.pop()

    def _forget(self) -> None:
        oldest = self._monotonic() - WINDOW
        for who, times in list(self._times.items()):
            while times and times[0] < oldest:
                times.popleft()
            if not times:
                del self._times[who]


def _bounds(name: str, address: str) -> Iterator[tuple[tuple[str, ...], int]]:
    short = name[:64]  # longer ones are nobody's
    yield ("both", short, address), MOST_OF_BOTH
    yield ("address", address), MOST_OF_ADDRESS
    yield ("account", short), MOST_OF_ACCOUNT


@blueprint.post("/auth")
def sign_in() -> flask.Response:
    """A token for a name and password."""
    if "password" in flask.request.args:
        raise ApiError(400, 905, "expected the password in the body, found it in the URL, which is written to logs")
    values = parameters()
    account = verified(required(values, "username"), required(values, "password"))
    return answer({"token": _make_token(account), "username": account.name, "role": account.role})


def verified(name: str, password: str) -> Account:
    """The account, if the password is right; failed tries count.

    :raises ApiError: (401) if it is not, (429) after too many tries.
    """
    settings = current_installation().settings
    tries, address = settings.resource(Tries, Tries), flask.request.remote_addr or ""
    tries.begin(name, address)
    host = host_sign_in()
    if host is None:
        account = Accounts.of(settings).verify(name, password)
    else:
        account = host.account(host.by_password(name, password))
    if account is None:
        raise ApiError(401, 4031, "wrong credentials")
    tries.succeed(name, address)
    return account


def signed_in() -> Account:
    """The account that the request's token belongs to.

    :raises ApiError: (401) without a token, or with one that does not hold any more.
    """
    headers = flask.request.headers
    token = (headers.get("Authorization") or headers.get("PI-Authorization") or "").removeprefix("Bearer ").strip()
    if not token:
        raise ApiError(401, 4033, "sign in first: POST /auth, then send the token in the Authorization header")
    host = host_sign_in()
    return _own_account(token) if host is None else _host_account(host, token)


def _host_account(host: HostSignIn, token: str) -> Account:
    account = host.account(host.by_token(token))
    if account is None:
        raise ApiError(401, 4033, "the token is not one of an administrator, or not valid any more; sign in again")
    return account


def _own_account(token: str) -> Account:
    try:
        name, digest = _serializer().loads(token, max_age=LIFETIME)
    except (BadSignature, ValueError, TypeError):
        raise ApiError(401, 4033, "the token is not valid any more; sign in again") from None
    account = Accounts.of(current_installation().settings).get(str(name))
    if account is None or digest != fingerprint(account):
        raise ApiError(401, 4033, "the token is not valid any more; sign in again")
    return account


def _make_token(account: Account) -> str:
    token = _serializer().dumps([account.name, fingerprint(account)])
    return token.decode() if isinstance(token, bytes) else token


def fingerprint(account: Account) -> str:
    """Changes with password and role, so that what was given out before does not hold any more."""
    return hashlib.sha256(f"{account.password_hash}\0{account.role}".encode()).hexdigest()[:16]


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_installation().settings["SECRET_KEY"], salt=_SALT)
