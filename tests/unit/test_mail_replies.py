"""Replies of an SMTP server: read whatever way they come in, and judged by class, enhanced code and place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pijobs_mail.engine.replies import MAX_REPLY, ProtocolError, Replies, Reply, Step, Verdict
from pijobs_mail.engine.verdicts import judge, mail_id, retry_after


def read(text: bytes) -> Reply:
    reply = fed(text).take()
    assert reply is not None
    return reply


def fed(content: bytes) -> Replies:
    replies = Replies()
    replies.feed(content)
    return replies


def test_a_reply_has_code_enhanced_code_and_text() -> None:
    assert read(b"550 5.1.1 no such user\r\n") == Reply(550, "5.1.1", ("no such user",))


def test_lines_of_one_reply_belong_together() -> None:
    reply = read(b"250-mail.example greets you\r\n250-SIZE 1000\r\n250 HELP\r\n")
    assert reply.lines == ("mail.example greets you", "SIZE 1000", "HELP")


def test_the_enhanced_code_is_taken_off_every_line() -> None:
    assert read(b"451-4.7.1 greylisted\r\n451 4.7.1 come back later\r\n").text == "greylisted come back later"


def test_an_enhanced_code_of_another_class_is_text() -> None:
    assert read(b"250 5.1.1 is not what it means\r\n").enhanced is None


def test_a_code_alone_is_a_reply() -> None:
    assert read(b"354\r\n") == Reply(354, None, ("",))


def test_replies_glued_together_are_taken_one_by_one() -> None:
    replies = fed(b"250 first\r\n550 second\r\n2")
    assert [replies.take(), replies.take(), replies.take()] == [
        Reply(250, None, ("first",)),
        Reply(550, None, ("second",)),
        None,
    ]
    assert replies


@pytest.mark.parametrize("text", [b"hello\r\n", b"999 too high\r\n", b"25 short\r\n", b"250-a\r\n550 b\r\n", b"\r\n"])
def test_what_is_no_reply_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        fed(text).take()


@pytest.mark.parametrize("flood", [b"2" * (MAX_REPLY + 1), b"250-x\r\n" * (MAX_REPLY // 7 + 1)])
def test_a_reply_without_end_is_refused(flood: bytes) -> None:
    with pytest.raises(ProtocolError):
        fed(flood).take()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reply_an_error_or_too_few(content: bytes) -> None:
    replies = fed(content)
    try:
        reply = replies.take()
    except ProtocolError:
        return
    assert reply is not None or bool(replies) is bool(content)
    assert reply is None or 200 <= reply.code < 600


@given(
    st.integers(200, 599),
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=30), min_size=1, max_size=4),
    st.data(),
)
def test_a_reply_is_the_same_however_it_is_split(code: int, lines: list[str], data: st.DataObject) -> None:
    first, last = lines[:-1], lines[-1]
    wire = b"".join(f"{code}-{line}\r\n".encode() for line in first) + f"{code} {last}\r\n".encode()
    cut = data.draw(st.integers(0, len(wire) - 1))
    replies = fed(wire[:cut])
    assert replies.take() is None
    replies.feed(wire[cut:])
    assert replies.take() == read(wire)


@pytest.mark.parametrize(
    ("text", "step", "verdict"),
    [
        (b"250 2.1.5 ok", Step.RCPT, Verdict.ACCEPTED),
        (b"421 4.3.2 shutting down", Step.RCPT, Verdict.TROUBLE),
        (b"421 4.7.0 too many connections", Step.GREETING, Verdict.TROUBLE),
        (b"554 no SMTP service here", Step.GREETING, Verdict.TROUBLE),
        (b"451 4.7.1 greylisted", Step.RCPT, Verdict.DEFERRED),
        (b"450 4.2.0 mailbox busy", Step.RCPT, Verdict.DEFERRED),
        (b"451 4.3.0 mail system error", Step.MAIL, Verdict.TROUBLE),
        (b"452 4.3.1 disk full", Step.END, Verdict.DEFERRED),
        (b"452 4.3.4 too big at present", Step.END, Verdict.DEFERRED),
        (b"452 insufficient system storage", Step.MAIL, Verdict.TROUBLE),
        (b"452 4.5.3 too many recipients", Step.RCPT, Verdict.DEFERRED),
        (b"552 too many recipients", Step.RCPT, Verdict.DEFERRED),
        (b"552 5.2.2 mailbox full", Step.RCPT, Verdict.REFUSED),
        (b"552 5.3.4 message too big", Step.END, Verdict.REFUSED),
        (b"550 5.1.1 no such user", Step.RCPT, Verdict.REFUSED),
        (b"554 5.7.1 spam", Step.END, Verdict.REFUSED),
        (b"535 5.7.8 wrong password", Step.AUTH, Verdict.LOGIN),
        (b"454 4.7.0 try the login later", Step.AUTH, Verdict.TROUBLE),
        (b"530 5.7.0 authentication required", Step.MAIL, Verdict.LOGIN),
    ],
)
def test_a_reply_is_judged_by_class_enhanced_code_and_place(text: bytes, step: Step, verdict: Verdict) -> None:
    assert judge(read(text + b"\r\n"), step) is verdict


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("try again in 300 seconds", 300),
        ("Greylisted, please come back in 00:05:00", 300),
        ("retry after 2 minutes", 120),
        ("greylisted for 60s", 60),
        ("please wait at least 1 hour", 3600),
        ("come back in 3 days", None),
        ("try again in 999999 seconds", None),
        ("mailbox busy", None),
    ],
)
def test_the_time_that_a_server_asks_for_is_understood(text: str, seconds: float | None) -> None:
    assert retry_after(Reply(451, "4.7.1", (text,))) == seconds


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ok: queued as 4ZxY1b2c3d", "4ZxY1b2c3d"),
        ("OK id=1sABCd-000000001-2xyz", "1sABCd-000000001-2xyz"),
        ("a1b2c3d4 Message accepted for delivery", "a1b2c3d4"),
        ("Message Queued (3F2504E0-4F89.1)", "3F2504E0-4F89.1"),
        ("OK  1732400000 af79cd13be357-7b5 - gsmtp", "af79cd13be357-7b5"),
        ("<x@y> [InternalId=12345, Hostname=h] Queued mail for delivery", "12345"),
        ("thank you", None),
    ],
)
def test_the_queue_id_is_found_in_the_reply_of_known_servers(text: str, found: str | None) -> None:
    assert mail_id(Reply(250, "2.0.0", (text,))) == found


def test_a_shown_reply_is_one_short_printable_line() -> None:
    shown = str(Reply(550, "5.1.1", ("bell \x07", "x" * 1000)))
    assert shown.startswith("550 5.1.1 bell ?")
    assert shown.isprintable()
    assert len(shown) < 250


def test_secrets_that_a_server_repeats_can_be_blotted_out() -> None:
    assert "hunter2" not in str(Reply(535, None, ("no: hunter2",)).without("hunter2", ""))
    assert str(Reply(535, None, ("user u unknown",)).without("u")) == "535 user *** unknown"
