"""Checks that the header fields of a finished mail are exactly the intended ones.

Before Python 3.13, the standard library decodes an encoded word when it folds a long field. A line break in the word
can then begin a stranger's field, or the text.
"""

from __future__ import annotations

import email.policy
import re
from collections.abc import Iterable
from email.message import Message
from typing import Any, TypeVar

from pijobs_mail.errors import MessageError

T = TypeVar("T", str, bytes)

#: A field (RFC 5322 2.2): its name, and lines of which all but the first begin with a blank and hold more than blanks.
_FIELD = re.compile(rb"([!-9;-~]+):[^\r\n\0]*(?:\r\n[ \t]+[^\r\n\0 \t][^\r\n\0]*)*\r\n")


class CarefulPolicy(email.policy.EmailPolicy):
    """Writes each field as exactly one field.

    :raises MessageError: when it writes a value that would become several.
    """

    def fold(self, name: str, value: Any) -> str:
        return _one_field(str(super().fold(name, value)))

    def fold_binary(self, name: str, value: Any) -> bytes:
        return _one_field(super().fold_binary(name, value))


def verified(content: bytes, names: Iterable[str]) -> bytes:
    """The mail, if it has exactly the fields with these names, in this order.

    :raises MessageError: if it has others.
    """
    found, end = [], 0
    while (field := _FIELD.match(content, end)) is not None:
        found.append(field[1].lower())
        end = field.end()
    if found != [name.lower().encode("ascii", "replace") for name in names] or content[end : end + 2] != b"\r\n":
        raise MessageError("message: expected the headers that were meant, found others")
    return content


def check_fields(message: Message) -> None:
    """:raises MessageError: if the message's own policy would write one of its fields as several."""
    for part in message.walk():
        for name, value in part.raw_items():
            # The policy decides how lines end.
            _one_field(re.sub(rb"\r\n|\n", b"\r\n", message.policy.fold_binary(name, value)))


def _one_field(folded: T) -> T:
    octets = folded.encode("utf-8", "surrogateescape") if isinstance(folded, str) else folded
    if _FIELD.fullmatch(octets) is None:
        raise MessageError("message: expected headers of one line each, found a line in one that nobody meant")
    return folded
