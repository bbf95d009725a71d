"""Sends the request to a gateway, and reads its answer.

Import it only for sending: its libraries take as much memory and time as the rest of the plugin.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from typing import Any

import httpcore
import httpx

from pijobs import JobContext, Settings
from pijobs.base.network import tls_context
from pijobs_sms.answers import MAX_ANSWER, Answer
from pijobs_sms.bounded import BoundedBackend, within
from pijobs_sms.errors import GatewayDown, GatewayRefused, MaybeSent
from pijobs_sms.gateways import CA_FILE
from pijobs_sms.receipts import expect
from pijobs_sms.requests import build

#: Seconds that an idle connection is kept; many servers close theirs after a minute or less.
KEEP = 30

#: Texts of httpcore's errors for no answer, or incomplete headers.
_NO_ANSWER = "Server disconnected"


def send(ctx: JobContext, gateway: Mapping[str, Any], phone: str, text: str) -> str:
    """Send one SMS by one request; redirects are not followed."""
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
        # The error quotes the header, which may contain the text.
        raise GatewayRefused(f"the request can't be: {str(error).partition(' b')[0]}") from None
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        if isinstance(error, httpcore.RemoteProtocolError) and not str(error).startswith(_NO_ANSWER):
            raise MaybeSent(f"{request.url.host} broke off: {_why(error)}") from None
        raise GatewayDown(f"{request.url.host} broke off: {_why(error)}", maybe_sent=True) from None
    confirmation = answer.judged(gateway)
    if path := gateway["receipt_expects"]:
        expect(ctx, gateway["identifier"], answer.texts_at(path))
    return confirmation


def _pool(settings: Settings, proxy: str, login: tuple[str, str]) -> httpcore.ConnectionPool:
    """A pool of connections, shared by the threads of a process.

    Not httpx's client, which logs each URL, and with it number and OTP.

    :raises GatewayDown: if the file of authorities can't be read.
    """
    try:
        context = tls_context(settings[CA_FILE])
    except OSError as error:
        raise GatewayDown(f"the file of {CA_FILE} can't be read: {error.strerror or error}") from None
    limits: dict[str, Any] = {
        "ssl_context": context, "max_connections": None, "max_keepalive_connections": 20, "keepalive_expiry": KEEP,
        "network_backend": BoundedBackend(),
    }  # fmt: skip

    def make() -> httpcore.ConnectionPool:
        pool = _proxied(proxy, login, limits) if proxy else httpcore.ConnectionPool(**limits)
        # Close the connections with the installation; the end of a process closes them, too.
        weakref.finalize(settings, pool.close).atexit = False
        return pool

    # After a change of the file, use another context, and so other connections.
    return settings.resource((httpcore.ConnectionPool, os.getpid(), proxy, login, context), make)


def _proxied(proxy: str, login: tuple[str, str], limits: dict[str, Any]) -> httpcore.ConnectionPool:
    auth = login if login[0] else None
    if proxy.startswith("socks5"):
        # The proxy resolves the names.
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
