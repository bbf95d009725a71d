"""The provider ``http``: one request to a gateway."""

from __future__ import annotations

import base64
import os
import re
import weakref
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpcore
import httpx

from pijobs import JobContext, Settings
from pijobs.definitions import PASSWORD, USERNAME, Field, timeout_field
from pijobs.network import tls_context
from pijobs_sms.answers import MAX_ANSWER, Answer, path_fault
from pijobs_sms.bounded import BoundedBackend, within
from pijobs_sms.errors import GatewayDown, GatewayRefused
from pijobs_sms.gateways import PREFIX
from pijobs_sms.placeholders import fill
from pijobs_sms.provider import Provider

#: Seconds that an idle connection is kept; many servers close theirs after a minute or less.
KEEP = 30

_METHODS = ("GET", "POST", "PUT", "PATCH")
_ENCODINGS = ("form", "json", "query")
_LOGINS = ("basic", "bearer", "none")


def _check_url(value: str) -> str | None:
    return _url_fault(value) if value else None


def _url_fault(value: str) -> str | None:
    try:
        url = httpx.URL(fill(value, {"phone": "1", "otp": "1"}))
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or re.search(r"\s", value):
        return "expected a URL http://… or https://…, found something else"
    if url.userinfo:
        return "expected a URL without a login, found one; there are the fields username and password"
    return None


def _check_pattern(value: str) -> str | None:
    try:
        re.compile(value)
    except re.error as error:
        return f"expected a regular expression, found one that breaks off: {error.msg}"
    return None


def _check_path(value: str) -> str | None:
    return path_fault(value) if value else None


FIELDS = (
    Field("url", required=True, check=_check_url, help="address of the gateway"),
    Field("method", default="GET", choices=_METHODS, help="of HTTP"),
    Field("parameters", dict, default={}, help="names and texts with {phone}, {otp}, {username}, {password}, {id}"),
    Field("headers", dict, default={}, help="likewise"),
    Field("encoding", default="form", choices=_ENCODINGS, help="of the parameters; with GET they stand in the address"),
    Field(
        "auth",
        default="basic",
        choices=_LOGINS,
        help="bearer: the password is the token",
    ),
    USERNAME,
    PASSWORD,
    Field(
        "json_path", default="", check=_check_path,
        help="where the two patterns look in a JSON answer, such as messages.0.status (* for all); empty: all of it",
    ),
    Field("success", default="", check=_check_pattern, help="what a good answer contains (a regular expression)"),
    Field("failure", default="", check=_check_pattern, help="what a bad answer contains, though its status is good"),
    timeout_field(120, "seconds for name, connection and answer together"),
    Field("proxy", default="", check=_check_url, help="URL of a proxy"),
)  # fmt: skip


def send(ctx: JobContext, gateway: Mapping[str, Any], phone: str, text: str) -> str:
    """Send one SMS by one request; redirects are not followed."""
    request = _request(ctx, gateway, phone, text)
    pool = _pool(ctx.settings, gateway["proxy"])
    ctx.check()
    seconds = min(gateway["timeout"], ctx.time_left())
    try:
        with within(seconds):
            answer = _exchange(pool, request)
    except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.ProxyError) as error:
        raise GatewayDown(f"no connection to {request.url.host}: {_why(error)}") from None
    except httpcore.TimeoutException:
        raise GatewayDown(f"no answer from {request.url.host} within {seconds:.1f} s", maybe_sent=True) from None
    except httpcore.LocalProtocolError as error:
        raise GatewayRefused(f"the request can't be: {error}") from None
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise GatewayDown(f"{request.url.host} broke off: {_why(error)}", maybe_sent=True) from None
    return answer.judged(gateway)


def _request(ctx: JobContext, gateway: Mapping[str, Any], phone: str, text: str) -> httpx.Request:
    secrets = {"username": gateway["username"] or "", "password": gateway["password"] or "", "id": ctx.id}
    values = {"phone": phone, "otp": text, **secrets}
    url = httpx.URL(fill(gateway["url"], values, lambda value: quote(value, safe="")))
    parameters = {name: fill(template, values) for name, template in (gateway["parameters"] or {}).items()}
    headers = {name: fill(template, values).encode() for name, template in (gateway["headers"] or {}).items()}
    headers = {**_login(gateway), **headers}
    if gateway["method"] == "GET" or gateway["encoding"] == "query":
        return httpx.Request(gateway["method"], url.copy_merge_params(parameters), headers=headers)
    content: dict[str, Any] = {"json" if gateway["encoding"] == "json" else "data": parameters}
    return httpx.Request(gateway["method"], url, headers=headers, **content)


def _login(gateway: Mapping[str, Any]) -> dict[str, bytes]:
    username, password = gateway["username"] or "", gateway["password"] or ""
    if gateway["auth"] == "bearer":
        return {"Authorization": f"Bearer {password}".encode()}
    if gateway["auth"] == "basic" and username:
        return {"Authorization": b"Basic " + base64.b64encode(f"{username}:{password}".encode())}
    return {}


def _pool(settings: Settings, proxy: str) -> httpcore.ConnectionPool:
    """Kept connections, shared by the threads of a process.

    Not a client of httpx: that writes each URL into the log, and with it the number and the OTP.

    :raises GatewayDown: for a file of authorities that can't be read.
    """
    try:
        context = tls_context(settings[PREFIX + "CA_FILE"])
    except OSError as error:
        raise GatewayDown(f"the file of {PREFIX}CA_FILE can't be read: {error.strerror or error}") from None
    limits: dict[str, Any] = {
        "ssl_context": context, "max_connections": None, "max_keepalive_connections": 20, "keepalive_expiry": KEEP,
        "network_backend": BoundedBackend(),
    }  # fmt: skip

    def make() -> httpcore.ConnectionPool:
        pool = httpcore.HTTPProxy(proxy_url=proxy, **limits) if proxy else httpcore.ConnectionPool(**limits)
        # The connections end with the installation; those of a process that ends, with it.
        weakref.finalize(settings, pool.close).atexit = False
        return pool

    # Another context, when the file changed: other connections.
    return settings.resource((httpcore.ConnectionPool, os.getpid(), proxy, context), make)


def _exchange(pool: httpcore.ConnectionPool, request: httpx.Request) -> Answer:
    raw, received = request.url, b""
    url = httpcore.URL(scheme=raw.raw_scheme, host=raw.raw_host, port=raw.port, target=raw.raw_path)
    with pool.stream(request.method, url, headers=request.headers.raw, content=request.read()) as response:
        for chunk in response.iter_stream():
            received += chunk
            if len(received) >= MAX_ANSWER:
                break
    return Answer.of(response.status, httpx.Headers(response.headers), received)


def _why(error: Exception) -> str:
    return "timed out" if isinstance(error, httpcore.TimeoutException) else str(error) or type(error).__name__


PROVIDER = Provider("http", FIELDS, send)
