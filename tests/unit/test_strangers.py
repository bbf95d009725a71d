"""Every function that is given a stranger's text: 2 MB of it cost no more than a little of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from costs import NASTY, seconds_of

from pijobs.base.foreign import cut
from pijobs.base.redact import describe, message_of, redact
from pijobs.definitions import DefinitionError, Definitions, Field, Url
from pijobs.errors import RetryJob
from pijobs.execution.verdict import shown_notes
from pijobs.settings.model import told_url
from pijobs.storage.contract import SessionInfo
from pijobs.storage.texts import storable_text
from pijobs_mail.engine import verdicts
from pijobs_mail.engine.replies import ProtocolError, Replies, Reply, Step
from pijobs_sms.answers import Answer, retry_after
from pijobs_sms.errors import SmsError

SECONDS = 0.05
FIELDS = Definitions(
    "a",
    [
        Field("url", Url, secret=True),
        Field("texts", dict, secret=True),
        Field("number", int),
        Field("choice", choices=("a", "b")),
    ],
)
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
        verdicts.may_be_the_servers(answer, step)
    verdicts.wants_fewer(answer)
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
}


@pytest.mark.parametrize("taker", TAKERS)
def test_two_megabytes_take_little_time(taker: str) -> None:
    slow = {name: cost for name in NASTY if (cost := seconds_of(partial(TAKERS[taker], NASTY[name]))) > SECONDS}
    assert slow == {}
