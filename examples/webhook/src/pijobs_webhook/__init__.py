"""Tells other services what happened: a signed POST with a JSON body, to the endpoints that the settings name.

``post.enqueue("audit", {"user": "…", "action": "login"})``
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from pijobs import DestinationDown, FailJob, JobContext, Limits, RetryJob, RetryPolicy, Setting, hookimpl, job

ENDPOINTS = "PI_JOB_QUEUE_WEBHOOK_ENDPOINTS"
SIGNING = "PI_JOB_QUEUE_WEBHOOK_SECRET"
#: Seconds; a request waits no longer, and no longer than the deadline.
TIMEOUT = 10.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the event to a place that nobody configured."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


@job(
    "webhook.post", retry=RetryPolicy(max_attempts=8, delay=5, max_delay=600), expires=24 * 3600, timeout=60,
    group=lambda endpoint, **_: f"webhook.{endpoint}", limits=Limits(concurrency=4),
    label=lambda endpoint, **_: f"event to {endpoint}",
)  # fmt: skip
def post(ctx: JobContext, endpoint: str, event: dict[str, Any]) -> None:
    """The job: post the event. A receiver tells repetitions by the header ``X-Event-Id``."""
    url = ctx.settings[ENDPOINTS].get(endpoint)
    if url is None:
        raise FailJob(f"expected an endpoint of {ENDPOINTS}, found {endpoint!r}")
    request = urllib.request.Request(url, _body(event), _headers(ctx, event), method="POST")
    ctx.check()
    try:
        with _opener.open(request, timeout=min(TIMEOUT, max(0.1, ctx.time_left()))) as reply:
            status, wait = reply.status, None
    except urllib.error.HTTPError as error:
        with error:
            status, wait = error.code, _retry_after(error.headers.get("Retry-After"))
    except (OSError, HTTPException) as error:
        raise DestinationDown(f"endpoint {endpoint!r} does not answer ({type(error).__name__})") from error
    ctx.note(status=status)
    ctx.measure("webhook_replies", endpoint=endpoint, code=f"{status // 100}xx")
    if status == 429:
        raise RetryJob("the endpoint wants us to slow down", delay=wait)
    if status >= 500:
        raise DestinationDown(f"the endpoint answered {status}", retry_after=wait)
    if status >= 300:
        raise FailJob(f"the endpoint answered {status}; another attempt would not help")


def _body(event: dict[str, Any]) -> bytes:
    try:
        return json.dumps(event, sort_keys=True).encode()
    except (TypeError, ValueError) as error:
        raise FailJob("expected an event that JSON can write") from error


def _headers(ctx: JobContext, event: dict[str, Any]) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "X-Event-Id": ctx.id}
    if secret := ctx.settings[SIGNING]:
        signature = hmac.new(secret.encode(), _body(event), hashlib.sha256).hexdigest()
        headers["X-Signature-256"] = f"sha256={signature}"
    return headers


def _retry_after(value: str | None) -> float | None:
    """Seconds (RFC 9110, section 10.2.3: a number of them, or a date)."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _are_urls(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(url, str) and urlsplit(url).scheme in ("http", "https")
        for name, url in value.items()
    )


@hookimpl
def register_settings() -> list[Setting]:
    return [
        Setting(
            name=ENDPOINTS, default={}, expected="URLs by the names of the endpoints", accepts=_are_urls,
            example={"audit": "https://audit.example.com/events"}, help="Where webhook.post may post to.",
        ),
        Setting(
            name=SIGNING, default="", expected="a text", accepts=lambda value: isinstance(value, str), secret=True,
            help="Signs each body (HMAC-SHA256, header X-Signature-256); empty: no signature.",
        ),
    ]  # fmt: skip
