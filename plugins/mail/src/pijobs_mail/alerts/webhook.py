"""Posts JSON to a webhook, in bounded time: whatever the other side does, the caller goes on."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pijobs.base import threads

#: Seconds for all of it: name, connection, TLS, answer.
PATIENCE = 10.0


class WebhookFailed(Exception):
    """It did not take the message. The text names the host alone: the rest of a webhook's URL is often a secret."""


def is_webhook(value: object) -> bool:
    """Whether it is an ``http://`` or ``https://`` URL that can be posted to."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        return False
    parts = urlsplit(value)
    port_fits = parts.port is None or parts.port > 0  # raises ValueError for one that can't be
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and port_fits


def post(url: str, message: Mapping[str, Any], *, patience: float = PATIENCE) -> None:
    """Post a message as JSON. Redirects are not followed, certificates are verified.

    :param patience: seconds. Neither a slow resolver nor an answer that comes byte by byte takes longer.
    :raises WebhookFailed: for any answer but 2xx, and for none.
    """
    parts = urlsplit(url)
    answer = _Answer(url, json.dumps(message).encode(), patience)
    # A thread, since no time-out of a socket bounds the resolver, or the sum of many short reads.
    thread = threads.Thread(target=answer.fetch, name="pijobs-webhook", daemon=True)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        raise WebhookFailed(f"the webhook at {parts.hostname} did not answer within {patience:g} s")
    if answer.error is not None:
        raise WebhookFailed(f"the webhook at {parts.hostname} can't be reached ({answer.error})")
    if not 200 <= answer.status < 300:
        raise WebhookFailed(f"the webhook at {parts.hostname} answered {answer.status}, expected 2xx")


class _Answer:
    def __init__(self, url: str, body: bytes, patience: float) -> None:
        self.status = 0
        #: Class name of what went wrong; its text may quote the URL.
        self.error: str | None = None
        self._url, self._body, self._patience = url, body, patience

    def fetch(self) -> None:
        try:
            connection = _connection(self._url, self._patience)
            try:
                headers = {"Content-Type": "application/json", "User-Agent": "pijobs", "Connection": "close"}
                connection.request("POST", _target(self._url), self._body, headers)
                self.status = connection.getresponse().status
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.error = type(error).__name__


def _connection(url: str, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, parts.port, timeout=timeout)


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
