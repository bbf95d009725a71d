"""Logins by each mechanism, against servers that are particular about them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pijobs_mail.engine import auth
from pijobs_mail.engine.features import parse_features
from pijobs_mail.engine.replies import Reply

USER, PASSWORD = "user", "pencil"


class Server:
    """Says one reply after another, and keeps what it was asked."""

    def __init__(self, *replies: str) -> None:
        self.asked: list[str] = []
        self._replies = list(replies)

    def __call__(self, command: str) -> Reply:
        self.asked.append(command)
        code, _, text = self._replies.pop(0).partition(" ")
        return Reply(int(code), None, (text,))

    @property
    def answers(self) -> list[bytes]:
        return [base64.b64decode(command.split()[-1]) for command in self.asked if command.split()]


def challenge(text: bytes) -> str:
    return f"334 {base64.b64encode(text).decode()}"


def log_in(server: Server, *offered: str, **values: Any) -> tuple[str, int] | None:
    done = auth.log_in(list(offered), values.get("user", USER), values.get("password", PASSWORD), server)
    return None if done is None else (done[0], done[1].code)


@pytest.mark.parametrize(
    ("line", "mechanisms"),
    [
        (("AUTH PLAIN LOGIN", "AUTH=LOGIN"), {"PLAIN", "LOGIN"}),
        (("AUTH=LOGIN", "AUTH PLAIN"), {"PLAIN", "LOGIN"}),
        (("auth cram-md5", "AUTH GSSAPI"), {"CRAM-MD5", "GSSAPI"}),
        (("AUTH=PLAIN",), {"PLAIN"}),
        (("AUTH",), set()),
    ],
)
def test_all_lines_that_offer_logins_count(line: tuple[str, ...], mechanisms: set[str]) -> None:
    assert set(parse_features(Reply(250, None, ("mail.example.com", "SIZE 1000", *line)))["AUTH"].split()) == mechanisms


def test_a_server_that_asks_though_it_was_told_is_told_again() -> None:
    server = Server("334 ", "235 ok")
    assert log_in(server, "PLAIN") == ("PLAIN", 235)
    assert server.answers == [b"\0user\0pencil"] * 2


@pytest.mark.parametrize("code", [501, 504, 534, 538])
def test_a_mechanism_that_is_refused_as_such_is_followed_by_the_next(code: int) -> None:
    server = Server(f"{code} no PLAIN", "334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 ok")
    assert log_in(server, "PLAIN", "LOGIN", "CRAM-MD5") == ("LOGIN", 235)
    server = Server(*[f"{code} no"] * 3, challenge(b"<1@mail.example.com>"), "235 ok")
    assert log_in(server, "CRAM-MD5", "SCRAM-SHA-256", "LOGIN", "PLAIN") == ("CRAM-MD5", 235)
    assert [command.split()[1] for command in server.asked[:-1]] == ["PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5"]


def test_a_wrong_password_is_tried_by_no_other_mechanism() -> None:
    assert log_in(Server("535 wrong"), "PLAIN", "LOGIN") == ("PLAIN", 535)


def test_the_last_refusal_is_told_when_no_mechanism_is_taken() -> None:
    assert log_in(Server("504 no", "504 neither"), "PLAIN", "LOGIN") == ("LOGIN", 504)


#: RFC 7677 3.
FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.fixture
def known_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_urlsafe", lambda *_: "rOprNGfwEbeRWgbNEkqO")


@pytest.mark.usefixtures("known_nonce")
@pytest.mark.parametrize("asks", [False, True])
def test_scram_as_in_its_rfc(asks: bool) -> None:
    server = Server(*["334 "] * asks, challenge(FIRST), challenge(FINAL), "235 ok")
    assert log_in(server, "SCRAM-SHA-256") == ("SCRAM-SHA-256", 235)
    assert server.answers[0] == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert server.answers[-1] == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )


@pytest.mark.usefixtures("known_nonce")
def test_a_server_that_does_not_know_the_password_is_another_one() -> None:
    with pytest.raises(auth.ServerNotVerified):
        log_in(Server(challenge(FIRST), challenge(FINAL.replace(b"6rri", b"7rri")), "235 ok"), "SCRAM-SHA-256")


@pytest.mark.usefixtures("known_nonce")
@pytest.mark.parametrize(
    "first",
    [
        b"", b"r=another,s=W22Z,i=4096", FIRST.replace(b"4096", b"1000000000"), FIRST.replace(b"4096", b"200000"),
        FIRST.replace(b"s=", b"t="), b"x",
    ],
)  # fmt: skip
def test_a_server_that_asks_for_the_impossible_is_not_answered(first: bytes) -> None:
    server = Server(challenge(first), "501 cancelled", "501 cancelled")
    done = log_in(server, "SCRAM-SHA-256")
    assert done is not None and done[1] == 501
    assert server.asked[-1] == ("*" if first else server.asked[0].split()[-1])


@pytest.mark.parametrize(
    ("typed", "prepared"),
    [
        ("pencil", "pencil"),
        ("I\u00adX", "IX"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("pa\u00a0ss", "pa ss"),
        ("u\u0308", "\u00fc"),
        ("\u0007é", "\u0007é"),
    ],
)
def test_passwords_beyond_ascii_are_prepared_as_in_rfc_4013(typed: str, prepared: str) -> None:
    assert auth.saslprep(typed) == prepared
    server = Server("235 ok")
    log_in(server, "PLAIN", password=typed)
    assert server.answers == [b"\0user\0" + prepared.encode()]


def test_ntlm_is_not_supported_and_says_so() -> None:
    assert log_in(Server(), "NTLM", "GSSAPI") is None
    assert "NTLM and GSSAPI are not supported" in auth.no_common_mechanism(["NTLM"])
    assert "NTLM" not in auth.no_common_mechanism(["DIGEST-MD5"])
