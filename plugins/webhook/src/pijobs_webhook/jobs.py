"""The jobs: they post an event as JSON, or a given body."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from pijobs import DestinationDown, FailJob, Job, JobContext, Limits, RetryJob, RetryPolicy, Settings
from pijobs.base import clock
from pijobs_webhook.connections import Connections, Reply
from pijobs_webhook.settings import ENDPOINTS, SECRETS, keys_of
from pijobs_webhook.signature import headers

POST, FORWARD = "webhook.post", "webhook.forward"
JSON = "application/json"
#: Statuses of an endpoint that refuses a post now, but may accept it later.
_LATER = (408, 425, 429)
_GONE = 410


def post(ctx: JobContext, endpoint: str, event: dict[str, Any]) -> None:
    """Post an event as JSON.

    :param endpoint: name of the endpoint in the settings.
    """
    try:
        body = json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise FailJob(f"expected an event that JSON can write ({type(error).__name__})") from None
    forward(ctx, endpoint, body, JSON)


def forward(ctx: JobContext, endpoint: str, body: bytes, content_type: str = JSON) -> None:
    """Post a body as it is."""
    import httpx  # it takes long to import, and only workers post

    url = ctx.settings[ENDPOINTS].get(endpoint)
    if url is None:
        raise FailJob(f"expected an endpoint of {ENDPOINTS}, found {endpoint!r}")
    ctx.hide(url)
    keys = keys_of(ctx.settings[SECRETS].get(endpoint, ()))
    signed = {"Content-Type": content_type, "User-Agent": "pijobs", **headers(ctx.id, int(clock.time()), body, keys)}
    ctx.check()
    try:
        reply = Connections.of(ctx.settings).post(url, body, signed, ctx.time_left())
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise DestinationDown(f"endpoint {endpoint!r} can't be reached ({type(error).__name__})") from None
    except httpx.HTTPError as error:
        # The endpoint may have accepted it. Repeat it a few times; the receiver knows repetitions by webhook-id.
        raise DestinationDown(f"endpoint {endpoint!r} did not answer ({type(error).__name__})", counted=True) from None
    ctx.note(status=reply.status)
    ctx.measure("webhook_replies", endpoint=endpoint, code=f"{reply.status // 100}xx")
    _conclude(endpoint, reply)


def _conclude(endpoint: str, reply: Reply) -> None:
    status, wait = reply.status, _seconds(reply.retry_after)
    if 200 <= status < 300:
        return
    if status in _LATER:
        raise RetryJob(f"endpoint {endpoint!r} wants it later ({status})", delay=wait)
    if status >= 500:
        raise DestinationDown(f"endpoint {endpoint!r} answered {status}", retry_after=wait)
    if status == _GONE:
        raise FailJob(f"endpoint {endpoint!r} is gone (410); take it out of {ENDPOINTS}")
    raise FailJob(f"endpoint {endpoint!r} answered {status}; another attempt would not help")


def register(settings: Settings) -> list[Job]:
    """Both jobs. Their group is the host of the endpoint, so that a breaker stops only the posts to that host."""
    group = _group_of(settings)
    common: dict[str, Any] = {
        # For refusals and doubtful posts; attempts while an endpoint is down are not counted.
        "retry": RetryPolicy(max_attempts=8, delay=5, backoff=3, max_delay=3600),
        "expires": 24 * 3600, "timeout": 60, "group": group, "limits": Limits(concurrency=4),
        "label": lambda endpoint, **_: f"web hook to {endpoint}",
    }  # fmt: skip
    return [Job(POST, post, **common), Job(FORWARD, forward, **common)]


def _group_of(settings: Settings) -> Callable[..., str]:
    def group(endpoint: str, **_: Any) -> str:
        return f"webhook:{urlsplit(settings[ENDPOINTS].get(endpoint, '')).hostname or endpoint}"

    return group


def _seconds(value: str | None) -> float | None:
    """Seconds of ``Retry-After`` (RFC 9110, section 10.2.3: a number or a date); None for anything else."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, moment.timestamp() - clock.time())
