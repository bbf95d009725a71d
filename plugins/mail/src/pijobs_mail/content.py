"""The content of a mail in the form that DATA or BDAT want. Pure."""

from __future__ import annotations

import re

# A server that offers CHUNKING and does not know it reads the text as commands; without this one they send nothing.
_COMMAND = re.compile(rb"^[ \t]*rcpt[ \t]+to", re.IGNORECASE | re.MULTILINE)


def could_be_commands(content: bytes) -> bool:
    """Whether a server that takes the lines for commands could be made to send another mail by them."""
    return _COMMAND.search(content) is not None


def on_the_wire(content: bytes) -> bytes:
    """The content as DATA wants it (RFC 5321 4.5.2), final dot included.

    Every line ends with CRLF, and there is no other CR or LF: what a server could take for another end of the data
    ("SMTP smuggling") is not in it.
    """
    return re.sub(rb"(?m)^\.", b"..", lines(content)) + b".\r\n"


def lines(content: bytes) -> bytes:
    """The content in whole lines that end with CRLF, without any other CR or LF (RFC 5321 2.3.8)."""
    whole = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    return whole if whole.endswith(b"\r\n") else whole + b"\r\n"
