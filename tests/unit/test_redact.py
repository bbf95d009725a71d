"""Addresses, one-time passwords and arguments do not get through."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from costs import costs_little

from pijobs.base.known_texts import Known, texts_in, values_in
from pijobs.base.masks import mask_address, mask_number
from pijobs.base.redact import MAX_LENGTH, describe, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to alice@example.com now", "to a***@example.com now"),
        ("<alice.b+tag@mail.example.com>", "<a***@mail.example.com>"),
        ('"john doe"@example.com', "***@example.com"),
        ("bob@[10.0.0.1] refused", "b***@[10.0.0.1] refused"),
        ("müller@example.com", "m***@example.com"),
        ("a@localhost", "a***@localhost"),
        ("two: ann@x.org,ben@y.org", "two: a***@x.org,b***@y.org"),
    ],
)
def test_of_an_address_the_first_letter_and_the_domain_stay(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_the_id_of_a_periodic_instance_is_no_address() -> None:
    assert (
        redact("job mail.digest mail.digest@1700000000000: done") == "job mail.digest mail.digest@1700000000000: done"
    )
    shown = redact("a.b@1700000000000 to alice@example.com, 49170@1234567890123, j.doe@1700000000000.example.com")
    assert shown == "a.b@1700000000000 to a***@example.com, 4***@***, j***@***.example.com"


def test_nothing_is_left_that_a_terminal_takes_for_a_command() -> None:
    assert redact("220 \x1b[2J\x07 ready\u202e\u2028now \x00") == "220 ?[2J? ready? now ?"
    assert redact("größer als 5 € – ja, 日本") == "größer als 5 € – ja, 日本"


@pytest.mark.parametrize(
    "text",
    [
        "Your code is 123456",
        "OTP:123456",
        "otp=123456",
        "123456.",
        "123456.Please hurry",
        "...123456",
        "(123456)",
        "code 12345678",
        "'755 224'",
        "+49 170 1234567",
        "+49-170-1234567",
    ],
)
def test_runs_of_six_digits_are_masked(text: str) -> None:
    shown = redact(text)
    assert "***" in shown
    assert not any(run in shown for run in ("123456", "755", "1234567", "170"))


@pytest.mark.parametrize(
    "text",
    [
        "took 0.123456 s",
        "2026-11-23 10:00:00+00:00",
        "at 127.0.0.1:65535",
        "id 6f1d2c3b4a5968778695a4b3c2d1e0f9",
        "reply 550 5.1.1",
        "attempt 12345 of 99999",
    ],
)
def test_what_an_operator_needs_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "redis://:secret@host/0",
        "redis://user:secret@host/0",
        "redis://:se@cret@host/0",
        "at postgresql+psycopg://pi:secret@db/pi, too",
    ],
)
def test_the_login_of_a_url_goes_and_its_host_stays(text: str) -> None:
    shown = redact(text)
    assert "cret" not in shown and "://***@" in shown


def test_known_texts_are_masked_wherever_they_stand() -> None:
    assert redact("server said: Dear Alice, hello", ["Dear Alice"]) == "server said: ***, hello"


@pytest.mark.parametrize("body", ["Hello Alice,\nyour code\tis XK7-PQ", 'it\'s "quoted" twice', "Grüße aus Köln, Zoë"])
def test_known_texts_are_masked_in_every_spelling(body: str) -> None:
    for quoted in (repr(body), ascii(body), repr(body.encode())):
        shown = redact(f"cannot use {quoted}", [body])
        assert shown in {"cannot use '***'", 'cannot use "***"', "cannot use b'***'", 'cannot use b"***"'}


def test_the_longest_known_text_goes_first() -> None:
    assert redact("secret word", ["secret", "secret word"]) == "***"


def test_the_result_is_one_line_of_bounded_length() -> None:
    shown = redact("a line\nand another " + "word " * 200)
    assert "\n" not in shown and len(shown) == MAX_LENGTH and shown.endswith("…")


@pytest.mark.parametrize("text", ["a" * 300_000, "1" * 300_000, "1 " * 100_000, '"' * 300_000, "a." * 100_000 + "@"])
def test_a_hostile_text_takes_no_time(text: str) -> None:
    assert costs_little(lambda: redact(text))


def test_masks_for_labels() -> None:
    assert mask_address("alice@example.com") == "a***@example.com"
    assert mask_address("alice") == "a***"
    assert mask_number("+491701234567") == "+49***67"
    assert mask_number("1234567") == "***"


def test_texts_are_found_at_every_depth() -> None:
    found = set(texts_in([{"x": ("deep text", [b"bytes here"])}, {frozenset({"a set"})}, 4711, None, True, 12]))
    assert found == {"deep text", "bytes here", "a set", "4711"}


def test_lines_and_words_with_digits_are_found_on_their_own() -> None:
    found = set(texts_in("Dear Bob\n  your code is XK7P9Q now  "))
    assert {"Dear Bob", "your code is XK7P9Q now", "XK7P9Q"} <= found
    assert "code" not in found


def test_texts_of_messages_are_found() -> None:
    modern = EmailMessage()
    modern.set_content("the secret line")
    legacy = MIMEMultipart()
    legacy.attach(MIMEText("another secret line"))
    assert {"the secret line", "another secret line"} <= set(texts_in([modern, legacy]))


def test_a_message_that_can_not_be_written_disturbs_nothing() -> None:
    broken = EmailMessage()
    broken.set_payload(object())  # type: ignore[call-overload]
    assert list(texts_in([broken, "text"])) == ["text"]


def test_an_integer_that_python_refuses_to_write_disturbs_nothing() -> None:
    assert list(texts_in([10**5000, "text"])) == ["text"]


def test_an_error_is_told_by_class_and_message() -> None:
    assert describe(ValueError("no such user bob@example.com")) == "ValueError: no such user b***@example.com"
    assert describe(ValueError()) == "ValueError"


def test_an_error_that_can_not_be_written_is_told_by_its_class() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(Broken()) == "Broken"


def test_a_password_in_the_query_of_a_request_is_masked() -> None:
    line = redact('"POST /auth?username=root&password=hunter2&x=1 HTTP/1.1" 400')
    assert line == '"POST /auth?username=root&password=***&x=1 HTTP/1.1" 400'


def test_texts_are_worked_out_for_a_line_only_that_has_letters_of_theirs() -> None:
    def worked_out() -> Iterator[str]:
        raise AssertionError("nobody asked")
        yield

    assert (
        redact("250 2.0.0 Ok: queued", Known(worked_out(), parts_of=["Your code is 739105."])) == "250 2.0.0 Ok: queued"
    )


@pytest.mark.parametrize(
    "value",
    [
        "it's \"so\"\nand it's a\\b7\n",
        "Gr\u00fc\u00dfe 12ab\r\n\u00e4-3x",
        b"\xff\x00tok7\n",
        ["a b c", 55512, {"x": "p q9"}],
        "tab\tq7 e",
    ],
)
def test_what_all_texts_are_parts_of_hides_the_same(value: object) -> None:
    plain, parts = Known(texts_in(value)), Known(texts_in(value), parts_of=[*values_in(value)])
    for text in texts_in(value):
        for said in (text, repr(text), ascii(text), repr(text.encode()), text.replace(" ", "+"), text.encode().hex()):
            assert redact(f"said {said} to", parts) == redact(f"said {said} to", plain) != f"said {said} to"
