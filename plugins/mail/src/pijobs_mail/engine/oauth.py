"""Access tokens (OAuth 2.0, RFC 6749) for logins with XOAUTH2: Microsoft 365, Google and others."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from pijobs.base import clock
from pijobs.base.network import tls_context
from pijobs_mail.errors import LoginRefused, ServerTrouble

#: Seconds before its expiry after which a token is not used any more.
MARGIN = 60.0
#: Seconds to keep a token if the answer names no expiry (RFC 6749 5.1 makes it optional).
_UNTOLD = 300.0
_MAX_ANSWER = 64 * 1024  # bytes
_SHOWN = 300  # characters


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The data for requesting access tokens.

    :param token_url: ``https://…``; ``http://`` only for this machine.
    :param refresh_token: of a user who agreed (RFC 6749 6); empty: the client's own credentials (RFC 6749 4.4).
    :param ca_file: PEM file of authorities to trust besides the system's.
    """

    token_url: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    scope: str = ""
    ca_file: str | None = None

    def form(self) -> dict[str, str]:
        """The request for a token, without empty fields."""
        kind = "refresh_token" if self.refresh_token else "client_credentials"
        form = {"grant_type": kind, "client_id": self.client_id, "client_secret": self.client_secret}
        form.update(refresh_token=self.refresh_token, scope=self.scope)
        return {name: value for name, value in form.items() if value}


@dataclass(frozen=True)
class _Token:
    value: str = field(repr=False)
    until: float


# Tokens of this process, by grant. If several threads need one at once, each fetches it: a lock could be forked.
_tokens: dict[Grant, _Token] = {}


def access_token(grant: Grant, seconds: float) -> str:
    """A token that is valid for some time: the kept one, or a new one.

    :param seconds: the time for fetching it.
    :raises LoginRefused: the token server refuses this client.
    :raises ServerTrouble: it does not answer, or not correctly.
    """
    kept = _tokens.get(grant)
    if kept is not None and clock.monotonic() < kept.until:
        return kept.value
    token = _read(_ask(grant, seconds))
    _tokens[grant] = token
    return token.value


def forget(grant: Grant) -> None:
    """The SMTP server refused its token: fetch a new one next time."""
    _tokens.pop(grant, None)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Secrets are sent to the configured address only."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _ask(grant: Grant, seconds: float) -> Any:
    host = urllib.parse.urlsplit(grant.token_url).hostname
    request = urllib.request.Request(
        grant.token_url,
        data=urllib.parse.urlencode(grant.form()).encode(),
        headers={"Accept": "application/json"},
    )
    try:
        https = urllib.request.HTTPSHandler(context=tls_context(grant.ca_file))
        opener = urllib.request.build_opener(https, _NoRedirect)
        if seconds <= 0:
            raise TimeoutError("timed out")
        with opener.open(request, timeout=seconds) as answer:
            return json.loads(answer.read(_MAX_ANSWER))
    except urllib.error.HTTPError as error:
        with error:
            raise read_refusal(error.code, error.read(_MAX_ANSWER), str(host)) from None
    except (ValueError, RecursionError):
        raise ServerTrouble(f"no access token from {host}: expected JSON, found something else") from None
    except OSError as error:
        raise ServerTrouble(f"no access token from {host}: {_why(error)}") from None
    except http.client.HTTPException as error:
        raise ServerTrouble(f"no access token from {host}: not HTTP ({type(error).__name__})") from None


def read_refusal(status: int, content: bytes, host: str) -> ServerTrouble:
    """The error, in the words of the server's answer (RFC 6749 5.2)."""
    try:
        answer = json.loads(content)
        told = answer["error"], str(answer.get("error_description", "")).strip().partition("\n")[0].strip()
        words = ": ".join(filter(None, map(str, told)))[:_SHOWN]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        words = f"HTTP status {status}"
    if status >= 500 or status == 429:
        return ServerTrouble(f"no access token from {host} now: {words}")
    advice = "check oauth_token_url, oauth_client_id, oauth_client_secret, oauth_refresh_token and oauth_scope"
    return LoginRefused(f"{host} gives no access token: {words}; {advice}")


def _read(answer: Any) -> _Token:
    try:
        value, lifetime = answer["access_token"], answer.get("expires_in", _UNTOLD)
        # An error of float() quotes the complete text.
        lifetime = float(lifetime[:40] if isinstance(lifetime, str) else lifetime)
        if not (isinstance(value, str) and value.isascii() and value.isprintable() and value):
            raise ValueError("no token")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise ServerTrouble("no access token: expected one in the answer (RFC 6749 5.1), found none") from None
    return _Token(value, clock.monotonic() + lifetime - min(MARGIN, lifetime / 2))


def _why(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, TimeoutError):
        return "timed out"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {reason.verify_message}"
    return str(getattr(reason, "strerror", None) or reason)
