"""Every function that is given a stranger's text: 2 MB of it cost no more than a little of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
from costs import NASTY, costs_little
from werkzeug.datastructures import MultiDict

from pijobs.base.foreign import cut
from pijobs.base.redact import describe, message_of, redact
from pijobs.definitions import DefinitionError, Definitions, Field, Url
from pijobs.errors import RetryJob
from pijobs.execution.verdict import shown_notes
from pijobs.settings.setting import told_url
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.texts import storable_text
from pijobs_mail.engine import auth, verdicts
from pijobs_mail.engine.features import parse_features
from pijobs_mail.engine.oauth import _MAX_ANSWER as MAX_ANSWER
from pijobs_mail.engine.oauth import _read as read_token
from pijobs_mail.engine.oauth import read_refusal
from pijobs_mail.engine.replies import ProtocolError, Replies, Reply, Step
from pijobs_mail.errors import ServerTrouble
from pijobs_sms import webhook
from pijobs_sms.answers import Answer, retry_after
from pijobs_sms.errors import SmsError
from pijobs_sms.smpp.pdus import HEADER, MAX_PDU, Command, Pdu, length_of
from pijobs_sms.smpp.receipts import take_receipt

FIELDS = Definitions(
    "a",
    [
        Field("url", Url, secret=True),
        Field("texts", dict, secret=True),
        Field("number", int),
        Field("choice", choices=("a", "b")),
    ],
)
#: Receipts that know whatever is told.
KNOWING: Any = SimpleNamespace(tell=lambda *_, **__: "an instance")
SETTINGS: Any = SimpleNamespace(resource=lambda *_: KNOWING)
GATEWAY = {"success": "^OK", "failure": "(no|bad)+ .*credit", "busy": "slow", "json_path": "a.*"}


def reply(text: str) -> None:
    replies = Replies()
    content = b"450 " + text.encode("utf-8", "replace") + b"\r\n"
    for start in range(0, len(content), 65536):
        replies.feed(content[start : start + 65536])
        with suppress(ProtocolError):
            replies.take()


def judged(text: str) -> None:
    answer = Reply(450, "4.7.1", (text,))
    for step in Step:
        verdicts.judge(answer, step)
        verdicts.may_concern_server(answer, step)
    verdicts.asks_to_slow_down(answer)
    verdicts.retry_after(answer)
    verdicts.mail_id(answer)
    verdicts.says_too_many(answer)
    str(answer.without("hunter2", "user"))


def answered(text: str) -> None:
    with suppress(SmsError):
        Answer.of(200, {"Content-Type": "text/plain"}, text.encode("utf-8", "replace")).judged(GATEWAY)


def defined(text: str) -> None:
    with suppress(DefinitionError):
        FIELDS.validate({"url": text, "texts": text, "number": text, "choice": text, text: 1}, {}, {})


def offered(text: str) -> None:
    found = parse_features(Reply(250, "", ("mx.example.com", text, f"AUTH {text}", f"SIZE {text}")))
    auth.no_common_mechanism(found.get("AUTH", "").split())


def answering(reply: Reply, line: str) -> Reply:
    return reply


def challenged(text: str) -> None:
    for said in (text, text.encode("utf-8", "replace").hex()):
        reply = Reply(334, "", (said,))
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5"):
            with suppress(auth.ServerNotVerified):
                auth.log_in([mechanism], "user", "hunter2", partial(answering, reply))


@cache
def as_json(text: str, *names: str) -> bytes:
    """As large as a server takes it; made once, since that is not what is measured."""
    return json.dumps(dict.fromkeys(names, text))[: 1024 * 1024].encode()


def token_refused(text: str) -> None:
    content = text[:MAX_ANSWER].encode("utf-8", "replace")[:MAX_ANSWER]
    for refusal in (content, as_json(text[:10_000], "error", "error_description")):
        read_refusal(400, refusal, "login.example.com")
    with suppress(ServerTrouble):
        read_token({"access_token": text, "expires_in": text})


def delivered(text: str) -> None:
    """By SMPP, with the text in each place; a longer PDU ends the session."""
    content = text[:MAX_PDU].encode("utf-8", "replace")
    with pytest.raises(ValueError, match="expected a PDU"):
        length_of(len(text).to_bytes(4, "big") + bytes(12))
    begin = b"\0" + b"\1\1 123\0" * 2 + bytes([4, 0, 0]) + b"\0\0" + bytes(4)
    for body in (content, begin + b"\0" + content, begin + b"\xff" + content, begin + bytes(MAX_PDU)):
        take_receipt(KNOWING, "main", Pdu(Command.DELIVER_SM, 1, 0, body[: MAX_PDU - HEADER]))
    _ = Pdu(Command.SUBMIT_SM, 1, 0, content[: MAX_PDU - HEADER]).message_id


def receipt(text: str) -> None:
    gateway = {"identifier": "main", **{field.name: field.default for field in webhook.FIELDS}}
    fields = {"id": text, "status": text}
    for form, content in ((fields, b""), ({}, as_json(text[:400_000], "id", "status"))):
        told = SimpleNamespace(
            args=MultiDict(), form=MultiDict(form), is_json=bool(content), get_data=lambda content=content, **_: content
        )
        webhook.take(SETTINGS, gateway, told)  # type: ignore[arg-type]


TAKERS: dict[str, Callable[[str], Any]] = {
    "cut": cut,
    "redact": redact,
    "redact, something known": lambda text: redact(text, ["+491701234567", "Dear Alice"]),
    "describe": lambda text: describe(ValueError(text)),
    "message_of": lambda text: message_of(RetryJob(text)),
    "notes": lambda text: shown_notes({text: text}, ["secret"]),
    "storable_text": storable_text,
    "told_url": told_url,
    "a worker's facts": SessionInfo.read,
    "a definition": defined,
    "an SMTP reply": reply,
    "the verdict of a reply": judged,
    "a gateway's answer": answered,
    "a gateway's wait": retry_after,
    "what a server offers": offered,
    "a server's challenge": challenged,
    "a server of tokens": token_refused,
    "a receipt by SMPP": delivered,
    "a receipt by HTTP": receipt,
}


@pytest.mark.parametrize("taker", TAKERS)
def test_two_megabytes_take_little_time(taker: str) -> None:
    slow = [name for name in NASTY if not costs_little(partial(TAKERS[taker], NASTY[name]))]
    assert slow == []
