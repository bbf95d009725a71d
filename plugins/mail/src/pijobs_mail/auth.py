"""Logins to an SMTP server (RFC 4954): PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), and Google's XOAUTH2."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable

#: Gives the answer to each challenge of the server, in turn.
Answer = Callable[[bytes], bytes]


def choose(
    offered: list[str], username: str, password: str, *, token: bool = False
) -> tuple[str, bytes | None, list[Answer]] | None:
    """The login with the first mechanism that both sides know.

    :param token: the password is an access token: XOAUTH2, or no login.

    :returns: its name, the initial response if it has one, and the answers to what the server asks then.
    """
    user, secret = username.encode(), password.encode()
    if token:
        # What comes as a challenge is an error in JSON; an empty answer brings the reply with its code.
        response = b"user=" + user + b"\1auth=Bearer " + secret + b"\1\1"
        return ("XOAUTH2", response, [lambda _: b""]) if "XOAUTH2" in offered else None
    if "PLAIN" in offered:
        return "PLAIN", b"\0" + user + b"\0" + secret, []
    if "LOGIN" in offered:
        return "LOGIN", None, [lambda _: user, lambda _: secret]
    if "CRAM-MD5" in offered:
        return "CRAM-MD5", None, [lambda challenge: user + b" " + _keyed_md5(secret, challenge)]
    return None


def _keyed_md5(secret: bytes, challenge: bytes) -> bytes:
    return hmac.new(secret, challenge, "md5").hexdigest().encode()


def encode(response: bytes) -> str:
    return base64.b64encode(response).decode()


def decode(challenge: str) -> bytes:
    """Empty for what is not base64: LOGIN's prompts carry no meaning, and some servers send them in clear."""
    try:
        return base64.b64decode(challenge, validate=True)
    except binascii.Error:
        return b""
