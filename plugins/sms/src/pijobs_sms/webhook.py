"""Delivery receipts by HTTP: the gateway calls ``/smsgateway/<identifier>/receipt``."""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from pijobs import Settings
from pijobs.definitions import Field
from pijobs_sms.answers import path_fault, texts_at
from pijobs_sms.patterns import found, pattern_fault
from pijobs_sms.receipts import Receipts

if TYPE_CHECKING:
    from flask import Request

log = logging.getLogger(__name__)

#: Most receipts of one call.
MOST = 100
_LONGEST = 100  # most characters of an outcome
_SECTION = "Delivery receipts"


def _check_url(value: str) -> str | None:
    fits = not value or re.fullmatch(r"https?://[^\s/?#{}@]+(/[^\s?#{}]*)?", value)
    return None if fits else "expected an address such as https://otp.example.com, found something else"


def _check_path(value: str) -> str | None:
    return path_fault(value) if value else None


FIELDS = (
    Field(
        "receipt_password", default="", secret=True, belongs_to=("url", "proxy", "receipt_url"), section=_SECTION,
        help="lets the gateway tell of deliveries at /smsgateway/NAME/receipt?password=…; empty: nobody may",
    ),
    Field(
        "receipt_url", default="", check=_check_url, section=_SECTION,
        help="address by which the gateway reaches this server, for {receipts}: https://otp.example.com",
    ),
    Field(
        "receipt_expects", default="", check=_check_path, section=_SECTION,
        help="where the gateway's id of the SMS stands in its JSON answer; empty: it tells our {id}",
    ),
    Field("receipt_id", default="id", check=_check_path, section=_SECTION, help="where the id stands in a receipt"),
    Field("receipt_status", default="status", check=_check_path, section=_SECTION, help="where the outcome stands"),
    Field(
        "receipt_delivered", default="(?i)^deliver(ed|d)$", check=pattern_fault, section=_SECTION,
        help="an outcome that means delivered (a regular expression)",
    ),
    Field(
        "receipt_failed", default="(?i)undeliv|not_?deliv|fail|reject|expired|cancel|delete",
        check=pattern_fault, section=_SECTION, help="one that means that it never will be",
    ),
)  # fmt: skip


def receipts_url(gateway: Mapping[str, Any], instance: str) -> str:
    """The URL for the gateway's receipts; empty without a ``receipt_url`` and a password."""
    base, password = gateway["receipt_url"], gateway["receipt_password"]
    if not base or not password:
        return ""
    path = f"/smsgateway/{quote(gateway['identifier'], safe='')}/receipt"
    return f"{base.rstrip('/')}{path}?{urlencode({'password': password, 'id': instance})}"


def is_from_gateway(gateway: Mapping[str, Any], request: Request) -> bool:
    """Whether the request has the gateway's password, in its address or by Basic authentication."""
    expected = gateway.get("receipt_password") or ""
    login = request.authorization
    shown = request.args.get("password") or (login.password if login else None) or ""
    return bool(expected) and hmac.compare_digest(expected.encode(), shown.encode())


def take(settings: Settings, gateway: Mapping[str, Any], request: Request) -> int:
    """Keep the receipts of a request. Returns how many SMS they concern. Ignores states that are not final.

    :raises DatabaseError: if they were not kept; the gateway may try again.
    """
    places = [_body(request), {**request.form.to_dict(), **request.args.to_dict()}]
    ids, outcomes = (_found(gateway[field], places) for field in ("receipt_id", "receipt_status"))
    number = 0
    for message_id, outcome in zip(ids[:MOST], (text[:_LONGEST] for text in outcomes), strict=False):
        delivered = found(gateway["receipt_delivered"], outcome) is not None
        if not delivered and found(gateway["receipt_failed"], outcome) is None:
            continue
        reason = "" if delivered else re.sub(r"[^\w .,:-]", "?", outcome)[:40]
        receipts = Receipts.of(settings)
        instance = receipts.tell(gateway["identifier"], message_id, delivered=delivered, reason=reason)
        known = instance or "an SMS that is not known"
        log.info(
            "SMS gateway %s: the state of %s is %s", gateway["identifier"], known, "delivered" if delivered else reason
        )
        number += instance is not None
    return number


def _body(request: Request) -> Any:
    """The JSON of a request, of any type: many gateways say text/plain, or a form."""
    text = request.get_data(as_text=True)
    try:
        return json.loads(text) if text.lstrip()[:1] in ("{", "[") else {}
    except (ValueError, RecursionError):
        return {}


def _found(path: str, places: list[Any]) -> list[str]:
    for place in places:
        # The name of a form's parameter may contain a dot.
        if isinstance(place, dict) and isinstance(place.get(path), str):
            return [*texts_at("0", [place[path]])]
        if texts := list(texts_at(path, place)):
            return texts
    return []
