"""Signing in: ``POST /auth`` gives a token that later requests send in the ``Authorization`` header.

A token is signed with ``SECRET_KEY``, holds for an hour, and is bound to the stored password hash and role: an account
that is removed or changed is out at once. Failed tries are counted per account and address in this process; with
several server processes each counts for itself.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque

import flask
from itsdangerous import BadSignature, URLSafeTimedSerializer

from pijobs.flask import current_installation
from pijobs.server.accounts import Account, Accounts
from pijobs.server.api import ApiError, answer, parameters, required

LIFETIME = 3600  # seconds
MOST_FAILURES, WINDOW = 10, 300.0  # tries per account and address, in so many seconds
_SALT = "pijobs server token"

blueprint = flask.Blueprint("pijobs_auth", __name__)


class Failures:
    """Failed tries of the last minutes, by account and address."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], deque[float]] = {}
        self._lock = threading.Lock()

    def check(self, who: tuple[str, str]) -> None:
        """:raises ApiError: (429) after too many failures."""
        with self._lock:
            self._forget()
            if len(self._times.get(who, ())) >= MOST_FAILURES:
                raise ApiError(429, 429, f"too many failed tries; wait {WINDOW / 60:.0f} minutes")

    def add(self, who: tuple[str, str]) -> None:
        with self._lock:
            self._times.setdefault(who, deque()).append(time.monotonic())

    def _forget(self) -> None:
        oldest = time.monotonic() - WINDOW
        for who, times in list(self._times.items()):
            while times and times[0] < oldest:
                times.popleft()
            if not times:
                del self._times[who]


@blueprint.post("/auth")
def sign_in() -> flask.Response:
    """A token for a name and password."""
    values = parameters()
    name, password = required(values, "username"), required(values, "password")
    settings = current_installation().settings
    failures = settings.resource(Failures, Failures)
    who = (name, flask.request.remote_addr or "")
    failures.check(who)
    account = Accounts.of(settings).verify(name, password)
    if account is None:
        failures.add(who)
        raise ApiError(401, 4031, "wrong credentials")
    return answer({"token": _make_token(account), "username": account.name, "role": account.role})


def signed_in() -> Account:
    """The account that the request's token belongs to.

    :raises ApiError: (401) without a token, or with one that does not hold any more.
    """
    header = flask.request.headers.get("Authorization") or flask.request.headers.get("PI-Authorization") or ""
    token = header.removeprefix("Bearer ").strip()
    if not token:
        raise ApiError(401, 4033, "sign in first: POST /auth, then send the token in the Authorization header")
    try:
        name, digest = _serializer().loads(token, max_age=LIFETIME)
    except (BadSignature, ValueError, TypeError):
        raise ApiError(401, 4033, "the token is not valid any more; sign in again") from None
    account = Accounts.of(current_installation().settings).get(str(name))
    if account is None or digest != _digest(account):
        raise ApiError(401, 4033, "the token is not valid any more; sign in again")
    return account


def _make_token(account: Account) -> str:
    token = _serializer().dumps([account.name, _digest(account)])
    return token.decode() if isinstance(token, bytes) else token


def _digest(account: Account) -> str:
    return hashlib.sha256(f"{account.password_hash}\0{account.role}".encode()).hexdigest()[:16]


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_installation().settings["SECRET_KEY"], salt=_SALT)
