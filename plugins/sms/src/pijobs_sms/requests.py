"""Builds the request of an HTTP gateway: an admin's template, filled with the SMS."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus
from xml.parsers import expat
from xml.sax.saxutils import escape

from pijobs_sms.errors import GatewayRefused
from pijobs_sms.placeholders import fill
from pijobs_sms.sigv4 import region_of, sign
from pijobs_sms.webhook import receipts_url

if TYPE_CHECKING:
    import httpx

METHODS = ("GET", "POST", "PUT", "PATCH")
ENCODINGS = ("form", "json", "query")
LOGINS = ("basic", "bearer", "aws", "none")
#: The placeholders of a request.
NAMES = ("phone", "otp", "sender", "username", "password", "id", "receipts")

_CDATA = re.compile(r"(<!\[CDATA\[.*?\]\]>)", re.DOTALL)
# XML 1.0, 2.2: no document may have them.
_NO_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# In quotes each of them is a text like others; outside of them none is JSON, and in a tag none is XML.
# A parser makes a blank of a line break in an attribute.
_XML = {'"': "&quot;", "'": "&apos;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
_TRICKY = {"json": '\\"', "xml": "&lt;"}


def url_fault(value: str, schemes: tuple[str, ...] = ("http", "https")) -> str | None:
    """Why a text is no URL to send to; None if it is one."""
    import httpx

    if (host := re.match("[a-z0-9]+://([^/?#]*)", value, re.IGNORECASE)) and "{" in host[1]:
        return "expected a host as it is, found a placeholder in it"
    try:
        url = httpx.URL(fill(value, dict.fromkeys(NAMES, "1")))
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in schemes or not url.host or re.search(r"\s", value):
        expected = " or ".join(f"{scheme}://…" for scheme in schemes)
        return f"expected a URL {expected}, found something else"
    if url.port is not None and not 0 < url.port < 65536:
        return "expected a port from 1 to 65535, found another one"
    if url.userinfo:
        return "expected a URL without a login, found one; there are fields for it"
    return None


def body_fault(template: str) -> str | None:
    """Why a filled body that begins as JSON or XML is invalid; None if it is valid."""
    kind = {"{": "json", "[": "json", "<": "xml"}.get(template.lstrip()[:1], "")
    try:
        if kind == "json":
            json.loads(fill(template, {**dict.fromkeys(NAMES, _TRICKY[kind]), "phone": "491"}))
        elif kind == "xml":
            expat.ParserCreate().Parse(fill(template, dict.fromkeys(NAMES, _TRICKY[kind])).encode(), True)
    except ValueError as error:
        return f"expected JSON with placeholders in quotes ({{phone}} may stand without), found none: {error}"
    except expat.ExpatError as error:
        return f"expected XML with placeholders in texts or in quotes, found none: {error}"
    return None


def headers_fault(headers: Mapping[str, str]) -> str | None:
    """Why some headers have invalid names (RFC 9110, 5.6.2) or values; None if all are valid."""
    wrong = [name for name in headers if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII)]
    if wrong:
        return f"expected names of headers, found {wrong[0][:60]!r}"
    broken = [name for name, text in headers.items() if re.search("[\0-\x08\n-\x1f\x7f]", text)]
    return f"expected texts of one line, found another one in {broken[0][:60]!r}" if broken else None


def build(gateway: Mapping[str, Any], phone: str, text: str, instance: str) -> httpx.Request:
    """The request that sends an SMS.

    :param gateway: its definition, with decrypted secrets.
    :param instance: id of the job instance, the same for all attempts.
    :raises GatewayRefused: if the request is invalid; nothing was sent.
    """
    import httpx

    if fault := url_fault(gateway["url"]):
        raise GatewayRefused(f"the request can't be: url: {fault}")
    values = {"phone": phone, "otp": text, "id": instance, "receipts": receipts_url(gateway, instance)}
    values |= {name: gateway[name] or "" for name in ("sender", "username", "password")}
    url = httpx.URL(fill(gateway["url"], values, lambda value: quote(value, safe="")))
    parameters = {
        name: fill(template, values)
        for name, template in (gateway["parameters"] or {}).items()
        if values["receipts"] or template != "{receipts}"
    }
    headers = httpx.Headers({"User-Agent": "pijobs-sms"})
    filled = {name: fill(template, values) for name, template in (gateway["headers"] or {}).items()}
    for name, value in {**_login(gateway), **filled}.items():
        headers[name] = value
    content: dict[str, Any] = {"json" if gateway["encoding"] == "json" else "data": parameters}
    if gateway["body"]:
        headers.setdefault("Content-Type", gateway["content_type"])
        content = {"content": _body(gateway, values)}
    if gateway["body"] or gateway["method"] == "GET" or gateway["encoding"] == "query":
        url = url.copy_merge_params(parameters)
        content = content if gateway["body"] else {}
    request = httpx.Request(gateway["method"], url, headers=headers, **content)
    if gateway["auth"] == "aws":
        region = gateway["aws_region"] or region_of(url.host)
        sign(request, gateway["username"] or "", gateway["password"] or "", region)
    return request


def _login(gateway: Mapping[str, Any]) -> dict[str, str]:
    username, password = gateway["username"] or "", gateway["password"] or ""
    if gateway["auth"] == "bearer":
        return {"Authorization": f"Bearer {password}"}
    if gateway["auth"] == "basic" and username:
        return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}
    return {}


def _body(gateway: Mapping[str, Any], values: Mapping[str, str]) -> bytes:
    if gateway["method"] == "GET":
        raise GatewayRefused("the request can't be: a body goes with POST, PUT or PATCH; the method is GET")
    header = Message()
    header["Content-Type"] = gateway["content_type"]
    kind = header.get_content_type()
    charset = str(header.get_param("charset") or "utf-8")
    if kind.endswith(("/xml", "+xml")):
        return _encoded(list(_filled_xml(gateway["body"], values)), charset)
    if kind.endswith(("/json", "+json")):
        body = fill(gateway["body"], values, lambda value: json.dumps(value)[1:-1])
        _check_json(body)
    elif kind == "application/x-www-form-urlencoded":
        body = fill(gateway["body"], values, quote_plus)
    else:
        body = fill(gateway["body"], values)
    return _encoded([(body, "strict")], charset)


def _filled_xml(template: str, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Encodes texts, and replaces letters that the charset lacks."""
    for n, part in enumerate(_CDATA.split(template)):
        if n % 2:
            yield fill(part, values, lambda value: _NO_XML.sub("?", value).replace("]]>", "]]]]><![CDATA[>")), "strict"
        else:
            yield fill(part, values, lambda value: escape(_NO_XML.sub("?", value), _XML)), "xmlcharrefreplace"


def _encoded(texts: Iterable[tuple[str, str]], charset: str) -> bytes:
    try:
        return b"".join(text.encode(charset, errors) for text, errors in texts)
    except (UnicodeEncodeError, LookupError):
        raise GatewayRefused(f"the request can't be: {charset[:30]} lacks a letter of it, or is no charset") from None


def _check_json(body: str) -> None:
    try:
        json.loads(body)
    except ValueError:
        raise GatewayRefused(
            "the request can't be: its body is no JSON once it is filled; {phone} without quotes wants "
            "phone_format=digits"
        ) from None
