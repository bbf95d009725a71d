"""Logins to an SMTP server (RFC 4954): PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 (RFC 7677), CRAM-MD5 (RFC 2195), and
Google's XOAUTH2."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from collections.abc import Callable, Iterator

from pijobs_mail.engine.replies import Reply

#: Returns the answer to each challenge of the server, in turn.
Answer = Callable[[bytes], bytes]
#: Name, initial response if there is one, and the answers to later challenges.
Mechanism = tuple[str, "bytes | None", list[Answer]]

#: Replies that refuse the mechanism itself, with any password (RFC 4954 6).
OTHER_MECHANISM = (500, 501, 502, 503, 504, 534, 538)
#: The most rounds of PBKDF2: RFC 7677 requires 4096, and more than this only costs time.
MAX_ROUNDS = 100_000


class ServerUnknown(Exception):
    """The server can't prove that it knows the password."""


def log_in(
    offered: list[str], username: str, password: str, ask: Callable[[str], Reply], *, token: bool = False
) -> tuple[str, Reply] | None:
    """Log in with the first mechanism that both sides support and that the server does not refuse.

    :param offered: the mechanisms that the server offers.
    :param ask: sends a line and returns the reply.
    :param token: the password is an access token: use XOAUTH2, or no login.
    :returns: the mechanism, and the last reply without our secrets; None if both sides support no common mechanism.
    :raises ServerUnknown: the other end is not the right server.
    """
    found = None
    for name, initial, answers in _mechanisms(offered, username, password, token=token):
        sent = [] if initial is None else [encode(initial)]
        reply = ask(" ".join(["AUTH", name, *sent]))
        for answer in answers:
            if reply.code != 334:
                break
            sent.append(encode(answer(decode(reply.text))))
            reply = ask(sent[-1])
        found = name, reply.without(*sent, password, username)
        if reply.code not in OTHER_MECHANISM:
            break
    return found


def unknown(offered: list[str]) -> str:
    """Why there is no login, for people."""
    if not offered:
        return "the server offers no login"
    windows = "; NTLM and GSSAPI are not supported: ask the server's operator for PLAIN or LOGIN over TLS"
    hint = windows if {"NTLM", "GSSAPI"} & set(offered) else ""
    return f"the server offers no login that we know, but {' '.join(offered)[:200]}{hint}"


def _mechanisms(offered: list[str], username: str, password: str, *, token: bool) -> Iterator[Mechanism]:
    if token:
        yield from [_xoauth2(username.encode(), password.encode())] if "XOAUTH2" in offered else []
        return
    user, secret = prepared(username).encode(), prepared(password).encode()
    plain = b"\0" + user + b"\0" + secret
    known: list[Mechanism] = [
        # If the server asks although we sent it, send it again.
        ("PLAIN", plain, [lambda _: plain]),
        ("LOGIN", None, [lambda _: user, lambda _: secret]),
        _scram(user, secret),
        ("CRAM-MD5", None, [lambda challenge: user + b" " + hmac.new(secret, challenge, "md5").hexdigest().encode()]),
    ]
    yield from (mechanism for mechanism in known if mechanism[0] in offered)


def _xoauth2(user: bytes, token: bytes) -> Mechanism:
    response = b"user=" + user + b"\1auth=Bearer " + token + b"\1\1"
    # The challenge is an error in JSON. After an empty answer, the server sends the reply with its code.
    return "XOAUTH2", response, [lambda challenge: b"" if challenge else response]


def _scram(user: bytes, secret: bytes) -> Mechanism:
    """RFC 5802 3, without channel binding."""
    name = user.replace(b"=", b"=3D").replace(b",", b"=2C")
    first = b"n=" + name + b",r=" + secrets.token_urlsafe(18).encode()
    signature = b""

    def prove(challenge: bytes) -> bytes:
        nonlocal signature
        if challenge == b"":  # it asks for what we sent
            return b"n,," + first
        fields = dict(part.split(b"=", 1) for part in challenge.split(b",") if b"=" in part)
        nonce, rounds = fields.get(b"r", b""), fields.get(b"i", b"")
        salt = decode(fields.get(b"s", b"").decode("latin-1"))
        if not (nonce.startswith(first.rpartition(b"r=")[2]) and salt and 1 <= _number(rounds) <= MAX_ROUNDS):
            return b"*"  # RFC 4954 4: cancels
        salted = hashlib.pbkdf2_hmac("sha256", secret, salt, int(rounds))
        key = _mac(salted, b"Client Key")
        last = b"c=biws,r=" + nonce
        signed = first + b"," + challenge + b"," + last
        proof = bytes(map(int.__xor__, key, _mac(hashlib.sha256(key).digest(), signed)))
        signature = _mac(_mac(salted, b"Server Key"), signed)
        return last + b",p=" + base64.b64encode(proof)

    def verify(challenge: bytes) -> bytes:
        if signature and challenge.startswith(b"v="):
            if not hmac.compare_digest(decode(challenge[2:].decode("latin-1")), signature):
                raise ServerUnknown("the server does not prove that it knows the password; taken for another one")
            return b""
        return prove(challenge)

    return "SCRAM-SHA-256", b"n,," + first, [verify, verify, verify]


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, "sha256").digest()


def _number(digits: bytes) -> int:
    return int(digits) if len(digits) < 10 and digits.isdigit() else 0


def prepared(text: str) -> str:
    """Apply SASLprep (RFC 4013): the same letters become the same bytes, however typed. Forbidden ones stay."""
    if text.isascii():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(letter) else letter for letter in text if not stringprep.in_table_b1(letter)
    )
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    forbidden = (
        stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
        stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
        stringprep.in_table_c9,
    )  # fmt: skip
    return text if any(rule(letter) for letter in normal for rule in forbidden) else normal


def encode(response: bytes) -> str:
    """A response as it is sent; ``*`` cancels, and an empty one is an empty line."""
    return "*" if response == b"*" else base64.b64encode(response).decode()


def decode(challenge: str) -> bytes:
    """Empty if it is not base64: LOGIN's prompts have no meaning, and some servers send them as plain text."""
    try:
        return base64.b64decode(challenge, validate=True)
    except (binascii.Error, ValueError):
        return b""
