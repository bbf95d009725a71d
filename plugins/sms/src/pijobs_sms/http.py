"""The provider ``http``: one request to a gateway."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import httpcore
import httpx

from pijobs import JobContext, Settings
from pijobs.base.network import tls_context
from pijobs.definitions import PASSWORD, USERNAME, Field, Url, timeout_field
from pijobs_sms import gateways, webhook
from pijobs_sms.answers import MAX_ANSWER, Answer, path_fault
from pijobs_sms.bounded import BoundedBackend, within
from pijobs_sms.errors import AccountRefused, GatewayDown, GatewayRefused, MaybeSent
from pijobs_sms.gateways import PREFIX
from pijobs_sms.patterns import pattern_fault
from pijobs_sms.placeholders import fill
from pijobs_sms.provider import Provider
from pijobs_sms.receipts import expect
from pijobs_sms.requests import ENCODINGS, LOGINS, METHODS, NAMES, body_fault, build, headers_fault, url_fault

#: Seconds that an idle connection is kept; many servers close theirs after a minute or less.
KEEP = 30

#: What httpcore says when nothing of an answer came, or half of its headers.
_NO_ANSWER = "Server disconnected"
_ANSWER, _PROXY = "What the answer means", "Proxy"


def _check_url(value: str) -> str | None:
    return url_fault(value) if value else None


def _check_body(value: str) -> str | None:
    return body_fault(value) if value else None


def _check_proxy(value: str) -> str | None:
    if value.startswith("socks5") and find_spec("socksio") is None:
        return "expected http://… or https://…, found one that needs a library: pip install 'pijobs-sms[socks]'"
    return url_fault(value, ("http", "https", "socks5", "socks5h")) if value else None


def _check_path(value: str) -> str | None:
    return path_fault(value) if value else None


#: Who is given a secret.
_PLACE = ("url", "proxy")
FIELDS = (
    Field("url", Url, required=True, secret=True, check=_check_url, help="address of the gateway"),
    Field("method", default="GET", choices=METHODS, help="of HTTP"),
    Field("sender", default="", help="name or number that the SMS comes from, for {sender}"),
    Field(
        "parameters", dict, default={}, secret=True, belongs_to=_PLACE,
        help="names and texts with {phone}, {otp}, {sender}, {username}, {password}, {id}, {receipts}",
    ),
    Field("headers", dict, default={}, secret=True, belongs_to=_PLACE, check=headers_fault, help="likewise"),
    Field(
        "encoding", default="form", choices=ENCODINGS,
        help="of the parameters; with GET, or beside a body, they stand in the address",
    ),
    Field(
        "body", default="", secret=True, belongs_to=_PLACE, check=_check_body, multiline=True,
        help="instead of parameters: a text with placeholders, which are escaped as content_type needs it",
    ),
    Field("content_type", default="application/json", help="of the body: JSON, XML, a form, or any text as it is"),
    Field("auth", default="basic", choices=LOGINS, help="bearer: the password is the token; aws: a signature"),
    USERNAME,
    replace(PASSWORD, belongs_to=_PLACE),
    Field("aws_region", default="", help="of the signature, where the address does not tell"),
    timeout_field(120, "seconds for name, connection and answer together"),
    Field(
        "json_path", default="", check=_check_path, section=_ANSWER,
        help="where the patterns look in a JSON answer, such as messages.0.status (* for all); empty: all of it",
    ),
    Field(
        "success", default="", check=pattern_fault, section=_ANSWER,
        help="what a good answer contains (a regular expression)",
    ),
    Field(
        "failure", default="", check=pattern_fault, section=_ANSWER,
        help="what a bad answer contains, though its status is good",
    ),
    Field(
        "busy", default="", check=pattern_fault, section=_ANSWER,
        help="what an answer contains that wants us to slow down, though its status is not 429",
    ),
    *webhook.FIELDS,
    Field("proxy", default="", check=_check_proxy, section=_PROXY, help="URL: http://…, https://…, or socks5://…"),
    Field("proxy_username", default="", section=_PROXY, help="login; empty: none"),
    Field(
        "proxy_password", default="", secret=True, belongs_to=("proxy",), section=_PROXY, help="password of the login",
    ),
)  # fmt: skip


def send(ctx: JobContext, gateway: Mapping[str, Any], phone: str, text: str) -> str:
    """Send one SMS by one request; redirects are not followed."""
    _check_patterns(gateway)
    request = build(gateway, phone, text, ctx.id)
    pool = _pool(ctx.settings, gateway["proxy"], (gateway["proxy_username"] or "", gateway["proxy_password"] or ""))
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
        if isinstance(error, httpcore.RemoteProtocolError) and not str(error).startswith(_NO_ANSWER):
            raise MaybeSent(f"{request.url.host} broke off: {_why(error)}") from None
        raise GatewayDown(f"{request.url.host} broke off: {_why(error)}", maybe_sent=True) from None
    said = answer.judged(gateway)
    if path := gateway["receipt_expects"]:
        expect(ctx, gateway["identifier"], answer.texts_at(path))
    return said


def in_clear(gateway: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """What whoever is in between can read: secrets, numbers and texts."""
    url = httpx.URL(fill(gateway.get("url") or "", dict.fromkeys(NAMES, "1")))
    if url.scheme == "http":
        yield from gateways.in_clear(url.host, gateway, settings)


def _check_patterns(gateway: Mapping[str, Any]) -> None:
    """:raises AccountRefused: for one that an older release took; after the request it would be too late."""
    for field in FIELDS:
        if field.check is pattern_fault and (fault := pattern_fault(gateway[field.name] or "")):
            raise AccountRefused(f"{field.name}: {fault}; save the gateway with another one")


def _pool(settings: Settings, proxy: str, login: tuple[str, str]) -> httpcore.ConnectionPool:
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
        pool = _proxied(proxy, login, limits) if proxy else httpcore.ConnectionPool(**limits)
        # The connections end with the installation; those of a process that ends, with it.
        weakref.finalize(settings, pool.close).atexit = False
        return pool

    # Another context, when the file changed: other connections.
    return settings.resource((httpcore.ConnectionPool, os.getpid(), proxy, login, context), make)


def _proxied(proxy: str, login: tuple[str, str], limits: dict[str, Any]) -> httpcore.ConnectionPool:
    auth = login if login[0] else None
    if proxy.startswith("socks5"):
        # The proxy looks up the names.
        return httpcore.SOCKSProxy(proxy_url=proxy, proxy_auth=auth, **limits)
    return httpcore.HTTPProxy(proxy_url=proxy, proxy_auth=auth, **limits)


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


PROVIDER = Provider("http", FIELDS, send, in_clear)
