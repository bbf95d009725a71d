"""Encodes the content of a mail for DATA or BDAT. Pure."""

from __future__ import annotations

import base64
import email
import quopri
import re
from email.message import Message

from pijobs_mail.compose.fields import CarefulPolicy

_SEVEN_BIT = CarefulPolicy(linesep="\r\n", cte_type="7bit", max_line_length=None, refold_source="none")
# A server that offers CHUNKING without support reads the text as commands, but sends nothing without RCPT.
_COMMAND = re.compile(rb"^[ \t]*rcpt[ \t]+to", re.IGNORECASE | re.MULTILINE)


def could_be_commands(content: bytes) -> bool:
    """Whether a server that reads the lines as commands could send another mail."""
    return _COMMAND.search(content) is not None


def seven_bit(content: bytes) -> bytes:
    """The content for a server without 8BITMIME: 8-bit texts as quoted-printable or base64 (RFC 6152 3).

    8-bit headers become encoded words (RFC 2047).

    :raises ValueError: for 8-bit bytes between its parts, which no encoding can represent.
    """
    message = email.message_from_bytes(content, policy=_SEVEN_BIT)
    for part in message.walk():
        if not part.is_multipart() and not str(part.get_payload()).isascii():
            reencode(part)
    converted = message.as_bytes()
    if not converted.isascii():
        raise ValueError("expected 8-bit bytes in headers and texts of the mail only, found some between its parts")
    try:
        content.decode()
    except UnicodeDecodeError:
        return converted
    return converted.replace(b"=?unknown-8bit?", b"=?utf-8?")


def reencode(part: Message) -> None:
    """Encode a part as quoted-printable if it is a text, to keep it readable, else as base64. Its decoded bytes do not
    change, with any character set."""
    body = part.get_payload(decode=True)
    assert isinstance(body, bytes)
    text = part.get_content_maintype() == "text"
    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = "quoted-printable" if text else "base64"
    encoded = quopri.encodestring(body) if text else base64.encodebytes(body)
    part.set_payload(encoded.decode("ascii"))


def on_the_wire(content: bytes) -> bytes:
    """The content for DATA (RFC 5321 4.5.2), including the final dot.

    Every line ends with CRLF, and there is no other CR or LF. So it contains nothing that a server could mistake for
    the end of the data ("SMTP smuggling").
    """
    return re.sub(rb"(?m)^\.", b"..", lines(content)) + b".\r\n"


def lines(content: bytes) -> bytes:
    """The content in whole lines that end with CRLF, without any other CR or LF (RFC 5321 2.3.8)."""
    whole = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    return whole if whole.endswith(b"\r\n") else whole + b"\r\n"
