"""The provider ``http``: one request to a gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from pijobs import JobContext, Settings, Told
from pijobs.definitions import CONNECTION, LOGIN, PASSWORD, USERNAME, Field, Url, timeout_field
from pijobs_sms import gateways, webhook
from pijobs_sms.answers import path_fault
from pijobs_sms.errors import AccountRefused
from pijobs_sms.patterns import pattern_fault
from pijobs_sms.placeholders import fill
from pijobs_sms.provider import Provider
from pijobs_sms.requests import ENCODINGS, LOGINS, METHODS, NAMES, body_fault, headers_fault, url_fault

_MESSAGE, _ANSWER, _PROXY = "Message", "What the answer means", "Proxy"


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


#: Fields with the recipients of secrets.
_PLACE = ("url", "proxy")
FIELDS = (
    Field("url", Url, required=True, secret=True, check=_check_url, section=CONNECTION, help="address of the gateway"),
    Field("method", default="GET", choices=METHODS, section=CONNECTION, help="of HTTP"),
    Field("sender", default="", section=_MESSAGE, help="name or number that the SMS comes from, for {sender}"),
    Field(
        "parameters", dict, default={}, secret=True, belongs_to=_PLACE, section=_MESSAGE,
        help="names and texts with {phone}, {otp}, {sender}, {username}, {password}, {id}, {receipts}",
    ),
    Field(
        "headers", dict, default={}, secret=True, belongs_to=_PLACE, check=headers_fault, section=_MESSAGE,
        help="likewise",
    ),
    Field(
        "encoding", default="form", choices=ENCODINGS, section=_MESSAGE,
        help="of the parameters; with GET, or beside a body, they stand in the address",
    ),
    Field(
        "body", default="", secret=True, belongs_to=_PLACE, check=_check_body, multiline=True, section=_MESSAGE,
        help="instead of parameters: a text with placeholders, which are escaped as content_type needs it",
    ),
    Field(
        "content_type", default="application/json", section=_MESSAGE,
        help="of the body: JSON, XML, a form, or any text as it is",
    ),
    Field(
        "auth", default="basic", choices=LOGINS, section=LOGIN,
        help="bearer: the password is the token; aws: a signature",
    ),
    USERNAME,
    replace(PASSWORD, belongs_to=_PLACE),
    Field("aws_region", default="", section=LOGIN, help="of the signature, where the address does not tell"),
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
    from pijobs_sms import exchange

    _check_patterns(gateway)
    return exchange.send(ctx, gateway, phone, text)


def in_clear(gateway: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """What others on the network can read without TLS: secrets, numbers and texts."""
    import httpx

    url = httpx.URL(fill(gateway.get("url") or "", dict.fromkeys(NAMES, "1")))
    if url.scheme == "http":
        yield from gateways.in_clear(url.host, gateway, settings)
    if gateway.get("proxy") and (gateway.get("proxy_username") or gateway.get("proxy_password")):
        proxy = httpx.URL(gateway["proxy"])
        if proxy.scheme != "https" and not gateways.may_hear(proxy.host, settings):
            yield Told(
                "SMS gateway {name!r} gives its proxy {host} a login in clear; "
                "use https://, a proxy without a login, or name {host} in {setting}",
                name=gateway["identifier"], host=proxy.host, setting=gateways.LOGIN_WITHOUT_TLS,
            )  # fmt: skip


def _check_patterns(gateway: Mapping[str, Any]) -> None:
    """:raises AccountRefused: for an invalid setting that an older release saved, before the request is sent."""
    for field in FIELDS:
        if field.check is pattern_fault and (fault := pattern_fault(gateway[field.name] or "")):
            raise AccountRefused(f"{field.name}: {fault}; save the gateway with another one")


PROVIDER = Provider("http", FIELDS, send, in_clear)
