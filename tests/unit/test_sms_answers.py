"""What the answers of HTTP gateways mean. They stand in tests/corpus/answers.yml."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pijobs_sms.answers import MAX_ANSWER, Answer, path_fault
from pijobs_sms.errors import AccountRefused, GatewayDown, GatewayRefused, MaybeSent, SmsError

CORPUS = yaml.safe_load((Path(__file__).parents[1] / "corpus/answers.yml").read_text(encoding="utf-8"))
MEANINGS = {
    "doubt": MaybeSent,
    "refused": GatewayRefused,
    "other gateway": AccountRefused,
    "down": GatewayDown,
}


def written(row: dict[str, Any]) -> bytes:
    if "hex" in row:
        return bytes.fromhex(row["hex"])
    charset, _, packed = row.get("written", "utf-8").partition(" ")
    content: bytes = row.get("body", "").encode(charset) * row.get("repeated", 1)
    for step in packed.replace("raw deflate", "raw").split():
        if step == "gzip":
            content = gzip.compress(content)
        else:
            content = zlib.compress(content) if step == "deflate" else zlib.compress(content)[2:-4]
    return content


def judge(row: dict[str, Any]) -> type[Exception] | None:
    headers = {"Content-Type": row.get("type", ""), "Content-Encoding": row.get("encoding", "")}
    answer = Answer.of(row.get("status", 200), headers, written(row))
    fields = {"success": row.get("success", ""), "failure": row.get("failure", ""), "json_path": row.get("path", "")}
    fields["busy"] = row.get("busy", "")
    try:
        answer.judged(fields)
    except (MaybeSent, GatewayDown, GatewayRefused) as error:
        return type(error)
    return None


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: " ".join(map(str, row.values()))[:100])
def test_an_answer_of_the_corpus(row: dict[str, Any]) -> None:
    assert judge(row) is MEANINGS.get(row["means"])


def test_what_is_packed_small_is_not_unpacked_whole() -> None:
    bomb = gzip.compress(b"OK " + bytes(50 * 2**20))
    answer = Answer.of(200, {"Content-Encoding": "gzip"}, bomb)
    assert answer.text.startswith("OK") and len(answer.text) == MAX_ANSWER


@pytest.mark.parametrize("charset", ["hex", "zip", "rot13", "base64", "unicode_escape", "raw_unicode_escape", "utf-7"])
def test_a_charset_that_is_none_of_texts_ends_nothing(charset: str) -> None:
    """The SMS has been sent by then: an error of another kind would send it again."""
    content = b"x\x9c\\ud800 +2AA- OK"
    answer = Answer.of(200, {"Content-Type": f"text/plain; charset={charset}"}, content)
    with suppress(SmsError):
        answer.judged({"success": "OK", "failure": "", "busy": "", "json_path": ""})


@pytest.mark.parametrize(("letter", "charset"), [("ü", "utf-8"), ("ü", "utf-16-le"), ("发", "gb18030")])
def test_what_is_cut_within_a_letter_ends_before_it(letter: str, charset: str) -> None:
    content = ("O" + letter * MAX_ANSWER).encode(charset)
    answer = Answer.of(200, {"Content-Type": f"text/plain; charset={charset}"}, content)
    assert set(answer.text) == {"O", letter} and answer.text.startswith("O" + letter)


@pytest.mark.parametrize("path", ["status", "messages.0.status", "messages[0].status", "messages[*].to", "a-b.c_d:e"])
def test_a_path(path: str) -> None:
    assert path_fault(path) is None


@pytest.mark.parametrize("path", [".", "$.status", "a b", "messages[?status=='0']", "@id", "a'b"])
def test_what_is_no_path(path: str) -> None:
    assert "expected names" in (path_fault(path) or "")


@given(
    st.binary(max_size=200) | st.text(max_size=50).map(str.encode),
    st.sampled_from(
        ["utf-8", "utf-16", "utf-7", "iso-2022-jp", "gb18030", "shift_jis", "cp1", "x", "idna", "a; charset"]
    ),
    st.sampled_from(["", "gzip", "deflate", "gzip, deflate", "br", ",", "identity"]),
    st.sampled_from(["", "a", "*", "a.0.*", "0"]),
)
def test_whatever_comes_has_a_meaning(content: bytes, charset: str, encoding: str, path: str) -> None:
    headers = {"Content-Type": f"text/plain; charset={charset}", "Content-Encoding": encoding}
    answer = Answer.of(200, headers, content)
    with suppress(SmsError):
        answer.judged({"success": "^O", "failure": "E", "busy": "", "json_path": path})
    answer.texts_at(path)
