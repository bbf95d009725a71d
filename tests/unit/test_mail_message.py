"""Mails people can read, the same at every attempt, with nothing in their headers that was not meant to be there."""

from __future__ import annotations

import email
import email.policy
import re
from datetime import datetime, timezone
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pijobs_mail.compose.attachment import Attachment
from pijobs_mail.compose.message import Letter, compose
from pijobs_mail.compose.message_id import make_message_id, message_id_of
from pijobs_mail.errors import MessageError

DATE = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
SENDER = "pijobs@example.com"
MESSAGE_ID = "<fixed@example.com>"


def letter(**fields: Any) -> Letter:
    return Letter(**{"to": ("alice@example.com",), "subject": "Hello", "text": "Your code\n", **fields})


def written(**fields: Any) -> bytes:
    return compose(letter(**fields), sender=SENDER, message_id=MESSAGE_ID, date=DATE)


def read(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_a_text_mail_has_all_headers_it_needs() -> None:
    message = read(written())
    assert {name: message[name] for name in ("From", "To", "Subject", "Message-ID", "Auto-Submitted")} == {
        "From": SENDER,
        "To": "alice@example.com",
        "Subject": "Hello",
        "Message-ID": MESSAGE_ID,
        "Auto-Submitted": "auto-generated",
    }
    assert message["Date"].datetime == DATE
    assert message.get_content().splitlines() == ["Your code"]


def test_html_is_an_alternative_to_the_text() -> None:
    message = read(written(html="<p>Your code</p>"))
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


def test_html_can_stand_alone() -> None:
    message = read(written(text=None, html="<p>Your code</p>"))
    assert message.get_content_type() == "text/html"


def test_all_recipients_stand_in_the_header() -> None:
    message = read(written(to=("Alice Ä <alice@example.com>", "bob@example.com")))
    assert [(each.display_name, each.addr_spec) for each in message["To"].addresses] == [
        ("Alice Ä", "alice@example.com"),
        ("", "bob@example.com"),
    ]


def test_sender_and_reply_to_can_be_given() -> None:
    message = read(written(sender="Desk <desk@example.com>", reply_to="help@example.com"))
    assert (message["From"], message["Reply-To"]) == ("Desk <desk@example.com>", "help@example.com")


def test_two_attempts_send_the_same_bytes() -> None:
    assert written(html="<p>x</p>") == written(html="<p>x</p>")


@pytest.mark.parametrize("text", ["Grüße 🔑\n", "x" * 5000, "From me\n.\n..\n", "lone\rreturn\n"])
def test_every_text_travels_in_seven_bits_and_short_lines(text: str) -> None:
    content = written(text=text, subject="Grüße 🔑 " * 30)
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert read(content).get_content().split() == text.split()


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=200))
def test_any_subject_of_one_line_makes_one_header(subject: str) -> None:
    message = read(written(subject=subject))
    written_by_us = ["Auto-Submitted", "Date", "From", "Message-ID", "Subject", "To"]
    assert sorted(message.keys()) == sorted(
        [*written_by_us, "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    )


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=2000))
def test_any_text_arrives(text: str) -> None:
    content = written(text=text)
    assert content.isascii()
    arrived = read(content).get_content().replace("\r\n", "\n").rstrip("\n")
    assert arrived == re.sub(r"\r\n|\r", "\n", text).rstrip("\n")


@pytest.mark.parametrize("name", ["reply_to", "sender", "message_id"])
@pytest.mark.parametrize("breaker", ["\r\n", "\n", "\r", "\0", "\x85", "\u2028"])
def test_a_line_break_in_an_address_is_refused(name: str, breaker: str) -> None:
    with pytest.raises(MessageError, match=name):
        letter(**{name: f"a@example.com{breaker}Bcc: eve@example.com"}).check()


@pytest.mark.parametrize("breaker", ["\r\n", "\n", "\r", "\0", "\x85", "\u2028"])
def test_a_subject_of_several_lines_becomes_one(breaker: str) -> None:
    message = read(written(subject=f"a{breaker}Bcc: eve@example.com"))
    assert (message["Subject"], message["Bcc"]) == ("a Bcc: eve@example.com", None)


def test_no_subject_is_an_empty_one() -> None:
    assert b"\r\nSubject: \r\n" in written(subject=None)


def test_a_bad_recipient_does_not_stop_the_good_ones() -> None:
    mail = letter(to=("alice@example.com", "bob@example.com\r\nDATA", "", "carol@example.com, a b@example.com"))
    mail.check()
    assert [box.spec for box in mail.recipients] == ["alice@example.com", "carol@example.com"]
    assert mail.faults == [
        "to[1] (b***): expected one line, found a line break or control character in it",
        "to[3] (c***): expected a mail address, found blanks or signs before the @ that need quotes",
    ]


@pytest.mark.parametrize("to", [("bob@example.com\r\nDATA",), ("a b@example.com", "@"), ("", " ", ",")])
def test_without_any_good_recipient_a_mail_is_refused(to: tuple[str, ...]) -> None:
    with pytest.raises(MessageError, match=r"^to"):
        letter(to=to).check()


def test_reply_to_can_be_several() -> None:
    message = read(written(reply_to='a@example.com,"B, C" <b@example.com>'))
    assert [each.addr_spec for each in message["Reply-To"].addresses] == ["a@example.com", "b@example.com"]


def test_the_null_reverse_path_leaves_an_empty_header() -> None:
    assert b"From: \r\n" in written(sender="<>")


def test_an_address_beyond_ascii_stands_in_the_header_as_it_is() -> None:
    mail = letter(to=("j\u00f6rg@example.com", "bob@example.com"), reply_to="h\u00e4lp@example.com")
    assert mail.is_utf8(SENDER)
    assert "To: j\u00f6rg@example.com, bob@example.com\r\n".encode() in compose(
        mail, sender=SENDER, message_id=MESSAGE_ID, date=DATE
    )
    rest, others = mail.in_ascii()
    assert not rest.is_utf8(SENDER)
    assert ([box.spec for box in rest.recipients], rest.reply_to, others) == (
        ["bob@example.com"], None, ["j***@example.com"],
    )  # fmt: skip


def test_a_mail_can_do_without_auto_submitted() -> None:
    content = compose(letter(), sender=SENDER, message_id=MESSAGE_ID, date=DATE, auto_submitted=False)
    assert b"Auto-Submitted" not in content


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_long_lines_of_a_ready_made_message_are_encoded(kind: str) -> None:
    message = Message()
    message["Subject"] = "Ready"
    message["Content-Type"] = f"text/{kind}"
    message.set_payload(f"{'x' * 5000}\nshort\n")
    content = written(subject="", text=None, message=message)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert read(content).get_content().split() == ["x" * 5000, "short"]


def test_long_lines_of_a_signed_message_are_refused() -> None:
    message = MIMEMultipart("signed")
    part = Message()
    part.set_payload("x" * 5000)
    message.attach(part)
    with pytest.raises(MessageError, match="signed message"):
        written(subject="", text=None, message=message)


@pytest.mark.parametrize("attachments", [(), (Attachment("a.bin", b"x"),)])
def test_a_nul_goes_encoded(attachments: tuple[Attachment, ...]) -> None:
    content = written(text="a\0b", html="<p>\0</p>", attachments=attachments)
    assert b"\0" not in content
    for kind, text in (("plain", "a\0b"), ("html", "<p>\0</p>")):
        part = read(content).get_body((kind,))
        assert part is not None
        assert part.get_content().strip() == text


@pytest.mark.parametrize("fields", [{"to": ()}, {"text": None}, {"text": "\ud800"}, {"subject": "\ud800"}, {"text": 5}])
def test_what_can_not_be_sent_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        letter(**fields).check()


def ready(**headers: str) -> MIMEMultipart:
    message = MIMEMultipart()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.attach(MIMEText("Your code: 123456"))
    return message


def test_a_ready_made_message_is_completed_and_not_written_into() -> None:
    message = ready(Subject="Ready", Bcc="eve@example.com")
    before = message.as_bytes()
    sent = read(written(subject="another", text=None, message=message))
    assert (sent.get_all("Subject"), sent["From"], sent["Message-ID"]) == (["Ready"], SENDER, MESSAGE_ID)
    assert sent["Bcc"] is None
    assert message.as_bytes() == before


def test_headers_of_a_ready_made_message_stay() -> None:
    sent = read(written(subject="", text=None, message=ready(From="desk@example.com", Message_ID="<own@example.com>")))
    assert (sent.get_all("From"), sent.get_all("Message-ID")) == (["desk@example.com"], ["<own@example.com>"])


def test_a_line_break_in_a_ready_made_header_is_refused() -> None:
    message = Message()
    message["Subject"] = "x\r\nBcc: eve@example.com"
    with pytest.raises(MessageError, match="message"):
        letter(subject="", text=None, message=message).check()


def test_a_message_id_made_twice_differs() -> None:
    first, second = make_message_id(SENDER), make_message_id(SENDER)
    assert first != second
    assert first.endswith("@example.com>")


def test_the_message_id_of_an_instance_is_always_the_same() -> None:
    assert message_id_of("0af3", SENDER) == message_id_of("0af3", SENDER) == "<0af3@example.com>"


QR = Attachment("qr.png", b"\x89PNG\r\n", cid="qr")
PDF = Attachment("Übersicht.pdf", bytes(range(256)) * 40)
SHOWN = '<p>Scan this:</p><img src="cid:qr">'


def test_a_file_is_attached_under_its_name() -> None:
    message = read(written(attachments=(PDF,)))
    assert message.get_content_type() == "multipart/mixed"
    (part,) = message.iter_attachments()
    assert (part.get_filename(), part.get_content_type()) == ("Übersicht.pdf", "application/pdf")
    assert part.get_content() == PDF.content


def test_an_image_belongs_to_the_html_part_that_shows_it() -> None:
    message = read(written(html=SHOWN, attachments=(QR,)))
    assert message.get_content_type() == "multipart/alternative"
    text, related = message.iter_parts()
    assert (text.get_content_type(), related.get_content_type()) == ("text/plain", "multipart/related")
    html, image = related.iter_parts()
    assert html.get_content_type() == "text/html"
    assert (image["Content-ID"], image.get_content_disposition()) == ("<qr>", "inline")
    assert image.get_content() == QR.content


@pytest.mark.parametrize("text", ["Your code\n", None])
def test_files_and_images_go_together(text: str | None) -> None:
    message = read(written(text=text, html=SHOWN, attachments=(PDF, QR)))
    assert message.get_content_type() == "multipart/mixed"
    types = [part.get_content_type() for part in message.walk() if not part.is_multipart()]
    assert types == [*(["text/plain"] if text else []), "text/html", "image/png", "application/pdf"]


def test_two_attempts_send_the_same_bytes_with_attachments() -> None:
    first, second = (written(html=SHOWN, attachments=(PDF, QR)) for _ in range(2))
    assert first == second
    assert first.isascii()


@pytest.mark.parametrize(
    ("attachment", "reason"),
    [
        (Attachment("a\r\nBcc: x", b""), "file name"),
        (Attachment("../../etc/passwd", b""), "file name"),
        (Attachment("", b""), "file name"),
        (Attachment("a.txt", "text"), "bytes"),  # type: ignore[arg-type]
        (Attachment("a.txt", b"", type="no type"), "type"),
        (Attachment("a.eml", b"", type="message/rfc822"), "type"),
        (Attachment("qr.png", b"", cid="not shown"), "cid"),
        (Attachment("qr.png", b"", cid="q"), "html part that shows it"),
        (Attachment("qr.pdf", b"", cid="qr"), "expected an image"),
    ],
)
def test_what_can_not_be_attached_is_refused(attachment: Attachment, reason: str) -> None:
    with pytest.raises(MessageError, match=rf"attachments\[0\]: .*{reason}"):
        letter(html=SHOWN, attachments=(attachment,)).check()


@pytest.mark.parametrize(("name", "type"), [("a.png", "image/png"), ("a", None), ("a.eml", None), ("a.txt.gz", None)])
def test_the_type_of_a_file_follows_its_ending(name: str, type: str | None) -> None:
    assert Attachment(name, b"").full_type == (type or "application/octet-stream")


def test_a_ready_made_message_brings_its_own_attachments() -> None:
    with pytest.raises(MessageError, match="found both"):
        letter(subject="", text=None, message=ready(), attachments=(PDF,)).check()
