"""What the header fields of a finished mail must be: lines that were meant, and no others.

Before Python 3.13 the standard library decodes an encoded word when it folds a long field: a line break in it begins a
field, or the text, of a stranger's choice.
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
    """Writes fields, each of which is one field when it is written.

    :raises MessageError: (when it writes) for another one.
    """

    def fold(self, name: str, value: Any) -> str:
        return _one_field(str(super().fold(name, value)))

    def fold_binary(self, name: str, value: Any) -> bytes:
        return _one_field(super().fold_binary(name, value))


def verified(content: bytes, names: Iterable[str]) -> bytes:
    """The mail, if the names of its fields are these, in this order.

    :raises MessageError: for other ones.
    """
    found, end = [], 0
    while (field := _FIELD.match(content, end)) is not None:
        found.append(field[1].lower())
        end = field.end()
    if found != [name.lower().encode("ascii", "replace") for name in names] or content[end : end + 2] != b"\r\n":
        raise MessageError("message: expected the headers that were meant, found others")
    return content


def check_fields(message: Message) -> None:
    """:raises MessageError: for a message with a field that is more than one when its own policy writes it."""
    for part in message.walk():
        for name, value in part.raw_items():
            # Lines end as the policy wants it.
            _one_field(re.sub(rb"\r\n|\n", b"\r\n", message.policy.fold_binary(name, value)))


def _one_field(folded: T) -> T:
    octets = folded.encode("utf-8", "surrogateescape") if isinstance(folded, str) else folded
    if _FIELD.fullmatch(octets) is None:
        raise MessageError("message: expected headers of one line each, found a line in one that nobody meant")
    return folded
