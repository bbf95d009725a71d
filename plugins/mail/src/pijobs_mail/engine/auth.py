"""Login to an SMTP server (RFC 4954) with PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 (RFC 7677), CRAM-MD5 (RFC 2195) or
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

#: Computes the response to one challenge of the server.
Answer = Callable[[bytes], bytes]
#: The name; the initial response (RFC 4954 4), or None; and one function for each challenge that follows.
Mechanism = tuple[str, "bytes | None", list[Answer]]

#: Codes that refuse the mechanism, whatever the password is (RFC 4954 6).
MECHANISM_REFUSED = (500, 501, 502, 503, 504, 534, 538)
#: The most PBKDF2 iterations that a server may request. RFC 7677 4 requires at least 4096; a huge number would only
#: waste processor time.
MAX_ITERATIONS = 100_000


class ServerNotVerified(Exception):
    """The server did not prove that it knows the password."""


def log_in(
    offered: list[str], username: str, password: str, ask: Callable[[str], Reply], *, token: bool = False
) -> tuple[str, Reply] | None:
    """Log in with the first mechanism that both sides support and that the server does not refuse.

    :param offered: the mechanisms that the server offers.
    :param ask: sends a line and returns the reply.
    :param token: whether the password is an access token; then only XOAUTH2 is used.
    :returns: the mechanism, and the last reply with our secrets masked; None: there is no common mechanism.
    :raises ServerNotVerified: the server did not prove that it knows the password (SCRAM, RFC 5802 3).
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
        if reply.code not in MECHANISM_REFUSED:
            break
    return found


def no_common_mechanism(offered: list[str]) -> str:
    """The error text if :func:`log_in` returns None."""
    if not offered:
        return "the server offers no login"
    found = f"expected PLAIN, LOGIN, SCRAM-SHA-256 or CRAM-MD5, the server offers only {' '.join(offered)[:200]}"
    if {"NTLM", "GSSAPI"} & set(offered):
        return f"{found}; NTLM and GSSAPI are not supported: ask the server's operator for PLAIN or LOGIN over TLS"
    return found


def _mechanisms(offered: list[str], username: str, password: str, *, token: bool) -> Iterator[Mechanism]:
    if token:
        yield from [_xoauth2(username.encode(), password.encode())] if "XOAUTH2" in offered else []
        return
    user, secret = saslprep(username).encode(), saslprep(password).encode()
    plain = b"\0" + user + b"\0" + secret
    known: list[Mechanism] = [
        # Some servers ignore the initial response and send a challenge: repeat the response.
        ("PLAIN", plain, [lambda _: plain]),
        ("LOGIN", None, [lambda _: user, lambda _: secret]),
        _scram(user, secret),
        ("CRAM-MD5", None, [lambda challenge: user + b" " + hmac.new(secret, challenge, "md5").hexdigest().encode()]),
    ]
    yield from (mechanism for mechanism in known if mechanism[0] in offered)


def _xoauth2(user: bytes, token: bytes) -> Mechanism:
    response = b"user=" + user + b"\1auth=Bearer " + token + b"\1\1"
    # A challenge that is not empty contains the error as JSON. The server sends the code after an empty response.
    return "XOAUTH2", response, [lambda challenge: b"" if challenge else response]


def _scram(user: bytes, secret: bytes) -> Mechanism:
    """SCRAM (RFC 5802 3) without channel binding."""
    name = user.replace(b"=", b"=3D").replace(b",", b"=2C")
    first = b"n=" + name + b",r=" + secrets.token_urlsafe(18).encode()
    signature = b""

    def prove(challenge: bytes) -> bytes:
        nonlocal signature
        if challenge == b"":  # the server ignored the initial response
            return b"n,," + first
        nonce, salt, iterations = _scram_parameters(challenge)
        if not (nonce.startswith(first.rpartition(b"r=")[2]) and salt and 1 <= iterations <= MAX_ITERATIONS):
            return b"*"  # RFC 4954 4: cancels the login
        salted = hashlib.pbkdf2_hmac("sha256", secret, salt, iterations)
        key = _mac(salted, b"Client Key")
        last = b"c=biws,r=" + nonce
        signed = first + b"," + challenge + b"," + last
        proof = bytes(map(int.__xor__, key, _mac(hashlib.sha256(key).digest(), signed)))
        signature = _mac(_mac(salted, b"Server Key"), signed)
        return last + b",p=" + base64.b64encode(proof)

    def verify(challenge: bytes) -> bytes:
        if signature and challenge.startswith(b"v="):
            if not hmac.compare_digest(decode(challenge[2:].decode("latin-1")), signature):
                raise ServerNotVerified("the server did not prove that it knows the password; it may be an impostor")
            return b""
        return prove(challenge)

    # The third one answers a server that ignored the initial response.
    return "SCRAM-SHA-256", b"n,," + first, [verify, verify, verify]


def _scram_parameters(challenge: bytes) -> tuple[bytes, bytes, int]:
    """Nonce, salt and iteration count of the server's first message (RFC 5802 7); empty, empty and 0 if absent."""
    fields = dict(part.split(b"=", 1) for part in challenge.split(b",") if b"=" in part)
    salt = decode(fields.get(b"s", b"").decode("latin-1"))
    return fields.get(b"r", b""), salt, _number(fields.get(b"i", b""))


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, "sha256").digest()


def _number(digits: bytes) -> int:
    return int(digits) if len(digits) < 10 and digits.isdigit() else 0


def saslprep(text: str) -> str:
    """Normalize a user name or password (SASLprep, RFC 4013), so that equal letters become equal bytes.

    A text with a character that RFC 4013 2.3 prohibits is returned unchanged, because the server may accept it.
    """
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
    """Encode a response for the line that is sent. ``b"*"``, which cancels the login, is sent as it is."""
    return "*" if response == b"*" else base64.b64encode(response).decode()


def decode(challenge: str) -> bytes:
    """Decode a challenge; empty if it is not base64. Some servers send LOGIN's prompts, which we ignore, as text."""
    try:
        return base64.b64decode(challenge, validate=True)
    except (binascii.Error, ValueError):
        return b""
