"""What the replies of real servers mean. They stand in tests/corpus/replies.yml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from costs import costs_little

from pijobs_mail.engine import auth
from pijobs_mail.engine.oauth import read_refusal
from pijobs_mail.engine.replies import ProtocolError, Replies, Reply, Step
from pijobs_mail.engine.verdicts import (
    asks_to_slow_down,
    judge,
    limits_recipients,
    mail_id,
    may_concern_server,
    retry_after,
    says_too_many,
)

CORPUS = yaml.safe_load((Path(__file__).parents[1] / "corpus/replies.yml").read_text(encoding="utf-8"))


def reply(text: str) -> Reply:
    replies = Replies()
    replies.feed(text.encode() + b"\r\n")
    found = replies.take()
    assert found is not None
    return found


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: f"{row['by']} at {row['at']}: {row['says'][:60]}")
def test_a_reply_of_the_corpus(row: dict[str, Any]) -> None:
    said, step = reply(row["says"]), Step(row["at"])
    verdict = judge(said, step)
    assert {
        "verdict": verdict.value,
        "several": not said.accepted and may_concern_server(said, step),
        "fewer": asks_to_slow_down(said),
        "parts": not said.accepted and limits_recipients(said, step),
        "id": mail_id(said),
        "wait": retry_after(said),
    } == {
        "verdict": row["verdict"],
        "several": row.get("several", False),
        "fewer": row.get("fewer", False),
        "parts": row.get("parts", False),
        "id": row.get("id"),
        "wait": row.get("wait"),
    }


HUGE = 2_000_000  # bytes
TEXTS = {
    "too many": "too many ",
    "too much of nothing": "too many messages too much ",
    "blanks": "wait \t ",
    "digits": "for 1:2",
    "words": "queued as ",
    "ids": "id=",
    "letters": "a",
    "codes": "4.7.1 ",
    "addresses": "a@b ",
}


def looked_at(text: str) -> list[Callable[[], object]]:
    found = Reply(450, "4.7.1", (text,))
    accepted = Reply(250, None, (text,))
    return [
        lambda: [judge(found, step) for step in Step],
        lambda: [may_concern_server(found, step) for step in Step],
        lambda: [limits_recipients(found, step) for step in Step],
        lambda: asks_to_slow_down(found),
        lambda: says_too_many(found),
        lambda: retry_after(found),
        lambda: mail_id(accepted),
        lambda: str(found),
        lambda: found.without("hunter2", "u"),
        lambda: auth.decode(found.text),
    ]


@pytest.mark.parametrize("name", TEXTS)
def test_a_huge_text_of_a_server_costs_next_to_nothing(name: str) -> None:
    text = TEXTS[name] * (HUGE // len(TEXTS[name]))
    for number, look in enumerate([lambda: Reply(450, "4.7.1", (text,)), *looked_at(text)]):
        assert costs_little(look), (name, number)


@pytest.mark.parametrize(
    "content",
    [
        b"450 " + b"too many " * (HUGE // 9) + b"\r\n",
        b"450-too many\r\n" * (HUGE // 14) + b"450 x\r\n",
        b"250 x" * (HUGE // 5),
        b"450-" + b" " * HUGE + b"\r\n450 x\r\n",
    ],
)
def test_a_huge_reply_is_read_or_refused_at_once_in_pieces_of_any_size(content: bytes) -> None:
    def read() -> None:
        replies = Replies()
        try:
            for start in range(0, len(content), 16 * 1024):
                replies.feed(content[start : start + 16 * 1024])
                while replies.take() is not None:
                    pass
        except ProtocolError:
            pass

    assert costs_little(read)


def test_a_huge_answer_of_a_token_server_costs_next_to_nothing() -> None:
    content = b'{"error": "' + b"too many " * (HUGE // 9) + b'"}'
    assert costs_little(lambda: str(read_refusal(400, content, "login.example.com")))
    assert len(str(read_refusal(400, content, "login.example.com"))) < 1000
