"""What is an address, and what is not. The texts stand in tests/corpus/addresses.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from costs import costs_little
from hypothesis import given
from hypothesis import strategies as st

from pijobs_mail.compose.addresses import LONGEST_TEXT, Mailbox, mailbox, mailboxes, parse, sender_of
from pijobs_mail.errors import MessageError

CORPUS = yaml.safe_load((Path(__file__).parents[1] / "corpus/addresses.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: repr(row["text"]))
def test_a_text_of_the_corpus(row: dict[str, Any]) -> None:
    found = parse(row["text"])
    assert [[box.name, box.spec] for box in found.mailboxes] == row.get("mailboxes", [])
    faults = row.get("faults", [])
    assert len(found.faults) == len(faults)
    for said, expected in zip(found.faults, faults, strict=True):
        assert expected in said
        assert not row["text"].strip() or row["text"].strip() not in said, "a refusal does not quote the address"


@given(st.text(max_size=80) | st.text(' ab,;:<>@()"\\[]\r\n\tä', max_size=60))
def test_nothing_that_is_taken_could_be_another_command_or_header(text: str) -> None:
    for box in parse(text).mailboxes:
        outside = box.spec if '"' not in box.spec else box.spec.rpartition('"')[2]
        assert not set(box.spec) & set("\r\n\0")
        assert not set(outside) & set(" <>,;")


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=50), st.sampled_from(CORPUS))
def test_what_was_read_can_be_written_and_read_again(name: str, row: dict[str, Any]) -> None:
    for box in parse(row["text"]).mailboxes:
        named = Mailbox(name, box.local, box.domain)
        assert parse(named.written).mailboxes == (named,)


@pytest.mark.parametrize("letter", [*' a,;:<>@()"\\[].', '"",', "a@b.c,", "<a@b.c>", "()", "a:", '"\\"'])
def test_a_long_text_costs_little(letter: str) -> None:
    text = letter * (2_000_000 // len(letter))
    assert not parse(text).mailboxes and len(parse(text).faults) == (0 if letter == " " else 1)
    assert costs_little(lambda: parse(text), passes=10)
    assert costs_little(lambda: parse(text[: LONGEST_TEXT - 1]), passes=10)


@pytest.mark.parametrize("text", ["a " * 16000 + "@" + ":" * 31000, "<" + "]" * 30000 + "a" + "@" * 30000, "(" * 64000])
def test_a_text_that_was_made_to_take_long_does_not(text: str) -> None:
    assert not parse(text).mailboxes
    assert costs_little(lambda: parse(text), passes=10)


def test_an_address_has_the_length_that_smtp_allows() -> None:
    assert parse(f"{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}.example").mailboxes
    assert not parse(f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 63}.example").mailboxes


def test_one_address_is_one() -> None:
    assert mailbox("Help, Desk <desk@example.com>", "sender").spec == "desk@example.com"
    for text, found in (("a@example.com, b@example.com", "found 2"), ("", "found none"), ("a b@c", "before the @")):
        with pytest.raises(MessageError, match=f"^sender: expected .*{found}"):
            mailbox(text, "sender")


@pytest.mark.parametrize("text", ["", " ", "<>"])
def test_nobody_can_be_a_sender(text: str) -> None:
    assert sender_of(text).spec == ""


def test_of_several_texts_each_address_is_given_once_and_each_fault_by_its_place() -> None:
    boxes, faults = mailboxes(["a@example.com, b@example.com", "@", "A <a@example.com>"], "to")
    assert [box.spec for box in boxes] == ["a@example.com", "b@example.com"]
    assert faults == ["to[1] (@***): expected a mail address, found nothing before the @"]


def test_something_else_than_text_is_refused() -> None:
    assert parse(5).faults == ("expected text, found int",)  # type: ignore[arg-type]
