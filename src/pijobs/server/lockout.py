"""Limits failed tries to sign in.

The memory of each process counts the tries: a guesser could fill the database. With several processes, a guesser has as
many times more tries. (Flask-Limiter counts by one key and takes nothing back; here a try counts for an account and an
address at once, unless it succeeds.)

A device from which an account signed in before has a signed cookie, and tries of its own. So a guesser with many
addresses does not lock the owner out.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import flask
from itsdangerous import BadSignature, URLSafeTimedSerializer

from pijobs.base import clock, threads
from pijobs.server.api import ApiError

WINDOW = 300.0  # seconds in which failed tries count
#: Most failed tries in the window. The limits by account or address alone are high: a guesser must not lock out an
#: admin at another address, and all clients behind a proxy that Flask does not know have the same address.
MOST_OF_BOTH, MOST_OF_ADDRESS, MOST_OF_ACCOUNT = 10, 100, 100
#: Bits of an IPv6 address that identify a subscriber: each has at least a /64 (RFC 6177, section 2).
IPV6_BITS = 64
DEVICE = "pijobs_device"
DEVICE_LIFETIME = 90 * 24 * 3600  # seconds
#: Prefix of a cookie that no other host and no unencrypted answer can set (RFC 6265bis, section 4.1.3.2).
HOST_PREFIX = "__Host-"
_SALT = "pijobs known device"


class Tries:
    """The failed tries of the last :data:`WINDOW` seconds.

    :param monotonic: returns seconds; default: :func:`pijobs.base.clock.monotonic`.
    """

    def __init__(self, monotonic: Callable[[], float] | None = None) -> None:
        self._times: dict[tuple[str, ...], deque[float]] = {}
        self._lock = threads.Lock()
        self._monotonic = monotonic or clock.monotonic
        self._forgot = float("-inf")

    def begin(self, name: str, address: str, device: str | None = None) -> None:
        """Count a try before the password is checked, so that simultaneous tries also count.

        :param device: id of a device from which the account signed in before; counts instead of name and address.
        :raises ApiError: (429) after too many.
        """
        with self._lock:
            bounds = dict(_bounds(name, address, device))
            self._forget(bounds)
            if any(len(self._times.get(who, ())) >= most for who, most in bounds.items()):
                raise ApiError(429, 429, f"too many failed tries to sign in; wait {WINDOW / 60:.0f} minutes")
            for who in bounds:
                self._times.setdefault(who, deque()).append(self._monotonic())

    def succeed(self, name: str, address: str, device: str | None = None) -> None:
        """Take back what :meth:`begin` counted."""
        with self._lock:
            for who, _ in _bounds(name, address, device):
                if times := self._times.get(who):
                    times.pop()

    def _forget(self, asked: Iterable[tuple[str, ...]]) -> None:
        """Drop old tries of these keys, and once a second of all keys: a guesser with many addresses must not slow down
        everybody's sign-in."""
        oldest = self._monotonic() - WINDOW
        if self._forgot < oldest + WINDOW - 1:
            self._forgot, asked = oldest + WINDOW, list(self._times)
        for who in asked:
            times = self._times.get(who, deque())
            while times and times[0] < oldest:
                times.popleft()
            if not times:
                self._times.pop(who, None)


def _bounds(name: str, address: str, device: str | None) -> Iterator[tuple[tuple[str, ...], int]]:
    short, where = name[:64], network_of(address)  # no account has a longer name
    if device is not None:
        yield ("device", short, device), MOST_OF_BOTH
        return
    yield ("both", short, where), MOST_OF_BOTH
    yield ("address", where), MOST_OF_ADDRESS
    yield ("account", short), MOST_OF_ACCOUNT


def network_of(address: str) -> str:
    """The network that counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), IPV6_BITS), strict=False))


def known_device(name: str) -> str | None:
    """The id of the client's device, if the account signed in from it before."""
    try:
        id, owner = _serializer().loads(flask.request.cookies.get(_cookie(), ""), max_age=DEVICE_LIFETIME)
    except (BadSignature, ValueError, TypeError):
        return None
    return str(id) if owner == name else None


def remember_device(name: str) -> None:
    """Mark the client's device as known to the account, by a cookie in the answer to this request."""
    value = _serializer().dumps([known_device(name) or secrets.token_urlsafe(12), name])

    @flask.after_this_request
    def remember(response: flask.Response) -> flask.Response:
        response.set_cookie(
            _cookie(), value, max_age=DEVICE_LIFETIME, secure=flask.request.is_secure, httponly=True, samesite="Lax"
        )
        return response


def _cookie() -> str:
    return HOST_PREFIX + DEVICE if flask.request.is_secure else DEVICE


def _serializer() -> URLSafeTimedSerializer:
    secret = flask.current_app.secret_key
    assert secret is not None
    return URLSafeTimedSerializer(secret, salt=_SALT)
