"""The settings of this plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from pijobs import Setting
from pijobs_webhook.signature import is_key

PREFIX = "PI_JOB_QUEUE_WEBHOOK_"


def _is_url(value: object) -> bool:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _are_urls(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and name and _is_url(url) for name, url in value.items()
    )


def _are_keys(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and keys_of(keys) and all(map(is_key, keys_of(keys))) for name, keys in value.items()
    )


def keys_of(given: str | Sequence[str]) -> Sequence[str]:
    """The keys of a setting: one, or several during a change of the key."""
    return [given] if isinstance(given, str) else list(given) if isinstance(given, (list, tuple)) else []


ENDPOINTS: Setting[Mapping[str, str]] = Setting(
    name=PREFIX + "ENDPOINTS",
    default={},
    expected="a dictionary of names, each with an http:// or https:// URL",
    accepts=_are_urls,
    secret=True,  # a URL is often the only key to its endpoint
    help="The endpoints of web hooks: names that callers use, and URLs.",
    example={"audit": "https://audit.example.com/events"},
)
SECRETS: Setting[Mapping[str, str | Sequence[str]]] = Setting(
    name=PREFIX + "SECRETS",
    default={},
    expected="a dictionary of names of endpoints, each with a key (whsec_ and Base64 of 24 to 64 bytes), or a list",
    accepts=_are_keys,
    secret=True,
    help=(
        "Keys that sign the posts to an endpoint (Standard Webhooks, HMAC-SHA256). Several keys sign together, while"
        " the receiver changes from one to the other. Without a key there is no signature."
    ),
    example={"audit": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},  # of the specification
)
SETTINGS = (ENDPOINTS, SECRETS)
