"""Imitations of SMS gateways that many use, written from their public descriptions: each takes a request as the real
one would, and gives its answer, or the error that the description tells for a wrong one."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

from sms_gateway import Answer, Request

#: What the imitations know; others are refused.
USERNAME, PASSWORD, SENDER = "account", "secret", "ACME"
#: The one number that each of them refuses.
REFUSED = "+491700000000"
_BASIC = "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()


def _answer(status: int, value: Any = None) -> Answer:
    headers = {"Content-Type": "application/json"}
    return Answer(status, "" if value is None else json.dumps(value), headers=headers)


def _json(request: Request) -> Any:
    assert request.headers["Content-Type"] == "application/json"
    return json.loads(request.body)


def twilio(request: Request) -> Answer:
    if request.headers.get("Authorization") != _BASIC:
        return _answer(401, {"code": 20003, "message": "Authenticate", "status": 401})
    assert (request.method, request.path) == ("POST", f"/2010-04-01/Accounts/{USERNAME}/Messages.json")
    form = request.form
    if form["To"] == REFUSED:
        return _answer(400, {"code": 21211, "message": f"Invalid 'To' Phone Number: {form['To']}", "status": 400})
    assert form["From"] == SENDER and form["Body"] and re.fullmatch(r"\+\d+", form["To"])
    return _answer(201, {"sid": "SM" + "0" * 32, "status": "queued", "error_code": None, "to": form["To"]})


def vonage(request: Request) -> Answer:
    if request.headers.get("Authorization") != _BASIC:
        return _answer(401, {"title": "Unauthorized", "detail": "You did not provide correct credentials."})
    assert (request.method, request.path) == ("POST", "/v1/messages")
    message = _json(request)
    if message["to"] == REFUSED.strip("+"):
        return _answer(422, {"title": "Invalid params", "invalid_parameters": [{"name": "to"}]})
    assert (message["message_type"], message["channel"], message["from"]) == ("text", "sms", SENDER)
    assert message["text"] and message["to"].isdigit() and len(message["client_ref"]) <= 100
    return _answer(202, {"message_uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"})


def messagebird(request: Request) -> Answer:
    if request.headers.get("Authorization") != f"AccessKey {PASSWORD}":
        return _answer(401, {"errors": [{"code": 2, "description": "Request not allowed", "parameter": "access_key"}]})
    assert (request.method, request.path) == ("POST", "/messages")
    form = request.form
    if form["recipients"] == REFUSED.strip("+"):
        return _answer(422, {"errors": [{"code": 9, "description": "no (correct) recipients found"}]})
    assert form["originator"] == SENDER and form["body"] and form["recipients"].isdigit() and form["reference"]
    assert form["datacoding"] in ("plain", "unicode", "auto")
    items = [{"recipient": int(form["recipients"]), "status": "sent"}]
    return _answer(201, {"id": "e8077d803532c0b5937c639b60216938", "recipients": {"totalCount": 1, "items": items}})


def sipgate(request: Request) -> Answer:
    if request.headers.get("Authorization") != _BASIC:
        return Answer(401, "")
    assert (request.method, request.path) == ("POST", "/v2/sessions/sms")
    message = _json(request)
    if message["recipient"] == REFUSED:
        return Answer(400, "")
    assert message["smsId"] == SENDER and message["message"]
    return Answer(204, "")


def clicksend(request: Request) -> Answer:
    if request.headers.get("Authorization") != _BASIC:
        return _answer(401, {"http_code": 401, "response_code": "UNAUTHORIZED", "data": None})
    assert (request.method, request.path) == ("POST", "/v3/sms/send")
    (message,) = _json(request)["messages"]
    assert message["from"] == SENDER and message["body"] and message["source"] and message["custom_string"]
    status = "INVALID_RECIPIENT" if message["to"] == REFUSED else "SUCCESS"
    told = {"to": message["to"], "status": status, "message_id": "BF7AD270-0DE2-418B-B606-71D527D9C1AE"}
    return _answer(200, {"http_code": 200, "response_code": "SUCCESS", "data": {"messages": [told]}})


def seven(request: Request) -> Answer:
    assert (request.method, request.path) == ("POST", "/api/sms")
    if request.headers.get("X-Api-Key") != PASSWORD:
        return _answer(200, {"success": "900"} if "json" in request.headers["Accept"] else 900)
    form = request.form
    assert form["from"] == SENDER and form["text"] and form["foreign_id"]
    fails = form["to"] == REFUSED
    told = {"id": None if fails else "77149", "recipient": form["to"], "success": not fails, "error": None}
    return _answer(200, {"success": "202" if fails else "100", "total_price": 0.075, "messages": [told]})


def infobip(request: Request) -> Answer:
    if request.headers.get("Authorization") != f"App {PASSWORD}":
        return _answer(401, {"requestError": {"serviceException": {"messageId": "UNAUTHORIZED"}}})
    assert (request.method, request.path) == ("POST", "/sms/3/messages")
    (message,) = _json(request)["messages"]
    assert message["sender"] == SENDER and message["content"]["text"] and message["webhooks"]["callbackData"]
    (destination,) = message["destinations"]
    rejected = {"groupId": 5, "groupName": "REJECTED", "id": 52, "name": "REJECTED_DESTINATION"}
    pending = {"groupId": 1, "groupName": "PENDING", "id": 26, "name": "PENDING_ACCEPTED"}
    status = rejected if destination["to"] == REFUSED.strip("+") else pending
    return _answer(
        200, {"messages": [{"messageId": "2250be2d4219", "status": status, "destination": destination["to"]}]}
    )


def sns(request: Request) -> Answer:
    assert (request.method, request.path) == ("POST", "/")
    login = re.fullmatch(
        rf"AWS4-HMAC-SHA256 Credential={USERNAME}/(\d{{8}})/eu-central-1/sns/aws4_request, "
        r"SignedHeaders=content-type;host;x-amz-date, Signature=[0-9a-f]{64}",
        request.headers.get("Authorization", ""),
    )
    if not login or not request.headers["X-Amz-Date"].startswith(login[1]):
        return Answer(403, "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>")
    form = request.form
    assert (form["Action"], form["Version"]) == ("Publish", "2010-03-31")
    assert form["MessageAttributes.entry.1.Value.StringValue"] == "Transactional"
    if form["PhoneNumber"] == REFUSED:
        return Answer(400, "<ErrorResponse><Error><Code>InvalidParameter</Code></Error></ErrorResponse>")
    return Answer(
        200, "<PublishResponse><PublishResult><MessageId>94f20ce6</MessageId></PublishResult></PublishResponse>"
    )


PROVIDERS: dict[str, Callable[[Request], Answer]] = {
    imitation.__name__: imitation
    for imitation in (twilio, vonage, messagebird, sipgate, clicksend, seven, infobip, sns)
}
