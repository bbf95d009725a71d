"""Header fields by RFC 2047 and RFC 5322: short lines, whole words, every letter and blank as it was.

Texts stand in tests/corpus/headers.yml.
"""

from __future__ import annotations

import email.header
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pijobs_mail.compose import headers
from pijobs_mail.compose.addresses import Mailbox, parse

CORPUS = yaml.safe_load((Path(__file__).parents[1] / "corpus/headers.yml").read_text(encoding="utf-8"))
LETTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"])
TEXTS = st.text(LETTERS, max_size=300) | st.text(' ab=?"\\,ü<>@', max_size=200)
ENCODED = re.compile(rb"=\?[^?]+\?[bq]\?[^?]*\?=")


def check(field: bytes) -> None:
    """What RFC 5322 2.1.1 and RFC 2047 2 say of its lines."""
    assert field.endswith(b"\r\n") and not re.search(rb"\r(?!\n)|(?<!\r)\n", field)
    first, *others = field[:-2].split(b"\r\n")
    assert re.match(rb"[A-Za-z-]+: ", first)
    assert all(line.startswith(b" ") and line.strip() for line in others)
    for line in (first, *others):
        assert len(line) <= 998
        for word in ENCODED.findall(line):
            assert len(word) <= 75 and len(line) <= 76


def shown(value: bytes) -> str:
    """As a mail program shows it."""
    text = value.decode().replace("\r\n", "")
    return str(email.header.make_header(email.header.decode_header(text))) if "=?utf-8?" in text else text


@given(TEXTS)
def test_a_text_is_shown_as_it_was(text: str) -> None:
    field = headers.text("Subject", text)
    check(field)
    assert shown(field[len("Subject: ") : -2]) == text


@given(st.text(max_size=100))
def test_any_text_makes_one_field(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    check(headers.text("Subject", text))
    check(headers.addresses("To", [Mailbox(text, "a", "b.example")]))


@given(TEXTS)
def test_a_name_stays_with_its_address_and_is_shown_as_it_was(name: str) -> None:
    boxes = [Mailbox(name, "a", "b.example"), Mailbox("", "c", "d.example")]
    field = headers.addresses("To", boxes)
    check(field)
    value = field[len("To: ") : -2].decode().replace("\r\n", "")
    read = parse(value).mailboxes
    assert [box.spec for box in read] == ["a@b.example", "c@d.example"]
    assert (shown(read[0].name.encode()) if "=?utf-8?" in read[0].name else read[0].name) == name


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: repr(next(iter(row.values())))[:60])
def test_a_text_of_the_corpus(row: dict[str, Any]) -> None:
    if "subject" in row:
        field = headers.text("Subject", row["subject"])
        seen = shown(field[len("Subject: ") : -2])
    else:
        field = headers.addresses("To", [Mailbox(row["name"], "a", "b.example")])
        [box] = parse(field[len("To: ") : -2].decode().replace("\r\n", "")).mailboxes
        assert box.spec == "a@b.example"
        seen = shown(box.name.encode())
    check(field)
    assert seen == row.get("shown", row.get("subject", row.get("name")))
    assert field.decode() == row.get("field", field.decode())


def test_what_looks_like_an_encoded_word_is_text() -> None:
    field = headers.text("Subject", "=?utf-8?q?Bcc:_x?=")
    assert b"Bcc" not in field
    assert shown(field[len("Subject: ") : -2]) == "=?utf-8?q?Bcc:_x?="


@pytest.mark.parametrize("name", ["x" * 5000, "Dr. " + "x" * 5000, "é" * 5000])
def test_a_name_of_one_long_word_stands_on_lines_that_servers_take(name: str) -> None:
    (box,) = parse(f'"{name}" <bob@example.com>').mailboxes
    check(headers.addresses("To", [box]))


def test_a_long_quoted_name_keeps_its_quotes_on_all_lines() -> None:
    name = "Department, of " * 12 + "Research"
    field = headers.addresses("To", [Mailbox(name, "a", "b.example")])
    check(field)
    assert field.count(b'"') == 2 and max(map(len, field.split(b"\r\n"))) <= 76


def test_many_addresses_stand_on_several_lines() -> None:
    field = headers.addresses("To", [Mailbox("", f"person{n}", "b.example") for n in range(50)])
    check(field)
    assert max(map(len, field.split(b"\r\n"))) <= 76
    assert len(parse(field[4:-2].decode()).mailboxes) == 50
