"""Each line of a header is one that was meant, whoever wrote the mail; what can't be sent raises MessageError only."""

from __future__ import annotations

import email
import email.policy
from contextlib import suppress
from datetime import datetime, timezone
from email.header import Header
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pijobs_mail.compose.attachment import Attachment
from pijobs_mail.compose.content import seven_bit
from pijobs_mail.compose.fields import CarefulPolicy, verified
from pijobs_mail.compose.message import Letter, compose
from pijobs_mail.errors import MessageError

#: Texts in one line that the standard library decodes when it folds them, and others that it takes for several lines.
EVIL = [
    "=?utf-8?q?a=0D=0AX-Evil:_1?=",
    "é =?utf-8?q?a=0D=0ABcc:_eve@example.net=0D=0A=0D=0AYour_code_is_at_http://evil?= !",
    "=?utf-8?b?DQpYLUV2aWw6IDE=?=" + " and so on" * 20,
    '😀".=?utf-8?q?=0D=0ABcc:_x@y?=', "=?utf-8?q?=0AX-Evil:?= é" * 9,
    "a\u2028X-Evil: 1", "a\x85X-Evil: 1", "a\x0b\x0cX-Evil: 1", "a\x1cX-Evil: 1", "a\x1eX-Evil: 1" + " b" * 60, "a\0b",
    "a\r\n b", "a\r\n\r\nbody", "a\nX-Evil: 1", "a\rX-Evil: 1", "utf-8''%0D%0AX-Evil%3A%201", "\ud800", "x" * 3000,
]  # fmt: skip
DATE = datetime(2026, 1, 1, tzinfo=timezone.utc)


def composed(letter: Letter) -> bytes:
    return compose(letter, sender="me@example.com", message_id="<1@example.com>", date=DATE)


def assert_as_meant(letter: Letter) -> None:
    """No line of the mail begins a field that nobody meant, or it is refused."""
    with suppress(MessageError):
        lines = composed(letter).lower().split(b"\r\n")
        assert not [line for line in lines if line.startswith((b"bcc:", b"x-evil:", b"your code"))]
        assert not any(b"\r" in line or b"\n" in line for line in lines)


@pytest.mark.parametrize("evil", EVIL)
def test_a_text_of_a_caller_stays_in_its_field(evil: str) -> None:
    for letter in (
        Letter(to=("bob@example.com",), subject=evil, text="x"),
        Letter(to=(f'"{evil}" <bob@example.com>',), subject="s", text="x"),
        Letter(to=(f"{evil} <bob@example.com>",), subject="s", text="x", reply_to=f"{evil} <a@example.com>"),
        Letter(to=("bob@example.com",), subject="s", text="x", message_id=evil),
        Letter(to=("bob@example.com",), subject=evil, text="x", attachments=(Attachment(f"{evil}.txt", b"x"),)),
        Letter(to=("bob@example.com",), subject="s", text="x", attachments=(Attachment("a", b"x", type=f"a/{evil}"),)),
    ):
        assert_as_meant(letter)


def ready_made(evil: str, name: str) -> list[Message]:
    made: list[Message] = []
    for policy in (email.policy.default, email.policy.compat32, email.policy.SMTP, email.policy.SMTPUTF8):
        line = evil.replace("\r", " ").replace("\n", " ")
        raw = f"{name}: {line}\n\nthe text\n".encode("utf-8", "surrogateescape" if "\ud800" not in evil else "replace")
        made.append(email.message_from_bytes(raw, policy=policy))
    for kind in (Message, EmailMessage, lambda: MIMEText("hé", "plain", "utf-8"), MIMEMultipart):
        message: Message = kind()
        with suppress(Exception):
            message[name] = evil
            made.append(message)
    for wrapped in (evil, Header(evil.replace("\ud800", ""), "utf-8", header_name=name)):
        outer, part = MIMEMultipart(), MIMEText("x")
        part[name] = wrapped  # type: ignore[assignment]
        outer.attach(part)
        made.append(outer)
    return made


@pytest.mark.parametrize(
    "name", ["Subject", "X-Test", "To", "Content-Type", "Content-Disposition", "Message-ID", "References"]
)
@pytest.mark.parametrize("evil", EVIL)
def test_a_ready_made_message_has_no_field_that_it_had_not(evil: str, name: str) -> None:
    for message in ready_made(evil, name):
        assert_as_meant(Letter(to=("bob@example.com",), message=message))


def test_a_message_with_headers_of_its_own_is_sent() -> None:
    message = EmailMessage()
    message["Subject"] = "Grüße " * 30
    message["X-Long"] = "word " * 60
    message["List-Unsubscribe"] = "<https://example.com/" + "x" * 200 + ">"
    message.set_content("hé")
    assert b"\r\nList-Unsubscribe: " in composed(Letter(to=("bob@example.com",), message=message))


@pytest.mark.parametrize("payload", [5, [5], [None], "\ud800", object()])
def test_a_message_that_can_not_be_written_is_refused_as_such(payload: Any) -> None:
    message = Message()
    message["Content-Type"] = "text/plain; charset=unknown"
    message._payload = payload  # type: ignore[attr-defined]
    assert_as_meant(Letter(to=("bob@example.com",), message=message))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([email.policy.default, email.policy.compat32, email.policy.SMTPUTF8]))
def test_no_message_raises_anything_else(raw: bytes, policy: Any) -> None:
    with suppress(MessageError):
        composed(Letter(to=("bob@example.com",), message=email.message_from_bytes(raw, policy=policy)))


def test_a_mail_for_a_server_of_seven_bits_is_looked_at_again() -> None:
    evil = "Subject: é =?utf-8?q?a=0D=0AX-Evil:_1?=\r\n\r\ntext\r\n".encode()
    with suppress(ValueError):
        assert b"\r\nX-Evil" not in seven_bit(evil)


HEADS = [
    b"A: 1\r\nX: 2\r\n\r\n", b"A: 1\r\n\r\nB: 2\r\n\r\n", b"A: 1\nB: 2\r\n\r\n", b"A: 1\r\n \r\nB: 2\r\n\r\n",
    b"B: 1\r\nA: 2\r\n\r\n", b"A: 1\r\nB: 2\r\nC: 3\r\n\r\n", b"A: 1\r\nB: 2", b"A: 1\r\nB: \0\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("content", HEADS)
def test_a_head_that_nobody_meant_is_refused(content: bytes) -> None:
    assert verified(b"a: 1\r\n folded\r\nB: 2\r\n\r\ntext", ["A", "b"])
    with pytest.raises(MessageError, match="the headers that were meant"):
        verified(content, ["A", "B"])


def test_a_policy_that_writes_two_fields_for_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email.policy.EmailPolicy, "fold", lambda *_: "A: 1\r\nB: 2\r\n")
    with pytest.raises(MessageError, match="a line in one that nobody meant"):
        CarefulPolicy(linesep="\r\n").fold("Subject", "x")
