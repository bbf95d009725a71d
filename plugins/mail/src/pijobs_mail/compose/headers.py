"""Writes header fields by RFC 5322 2.2.3 and RFC 2047.

A value can neither end its field nor begin another one. Before Python 3.13, the standard library makes too long encoded
words, and loses quotes and blanks; it also takes a quarter of the time of an OTP mail.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator

from pijobs_mail.compose.addresses import Mailbox

#: Most characters of a line with an encoded word, and of an encoded word (RFC 2047 2). Other lines keep to it, too.
LINE, WORD = 76, 75
#: Most characters of a line (RFC 5322 2.1.1), with some room for what a relay adds in front.
LONGEST_LINE = 900

_BREAK = re.compile("[\r\n\u2028\u2029]+[ \t]*")
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")
_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_START, _END = "=?utf-8?b?", "?="
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")  # RFC 2047 5 (3)


def text(name: str, value: str | None) -> bytes:
    """A field of free text, such as Subject. A text of several lines becomes one; None becomes empty."""
    value = _one_line(value or "")
    if not value:
        return f"{name}: \r\n".encode()
    pieces = _words(value) if _is_plain(value) else list(_encoded(value, LINE - len(name) - 2))
    return _folded(name, pieces)


def addresses(name: str, boxes: Iterable[Mailbox]) -> bytes:
    """A field with addresses, such as To. Non-ASCII addresses are not encoded; they need SMTPUTF8 (RFC 6532)."""
    pieces: list[str] = []
    for box in boxes:
        if pieces:
            pieces[-1] += ","
        pieces += _mailbox(box)
    return _folded(name, pieces)


def token(name: str, value: str) -> bytes:
    """A field with our own value, which is never folded, such as Date or Message-ID."""
    assert not _BREAK.search(value)
    return f"{name}: {value}\r\n".encode("ascii")


def _mailbox(box: Mailbox) -> list[str]:
    """The pieces of an address; a line can be folded between two of them."""
    shown = _one_line(box.name)
    if not shown:
        return [box.spec]
    address = f"<{box.spec}>"
    if _ATOMS.fullmatch(shown) and _is_plain(shown):
        return [*shown.split(" "), address]
    if _is_plain(shown):
        return [*_quoted(shown), address]
    return [*_encoded(shown, LINE), address]


def _quoted(shown: str) -> list[str]:
    """The pieces of a quoted string, foldable at a single blank that belongs to its text."""
    return _words('"' + re.sub(r'(["\\])', r"\\\1", shown) + '"')


def _is_plain(value: str) -> bool:
    """Whether it needs no encoding: printable ASCII without something like an encoded word, and without blanks at its
    ends, which would be lost."""
    return bool(_PLAIN.fullmatch(value)) and "=?" not in value and max(map(len, value.split(" "))) < LONGEST_LINE


def _words(value: str) -> list[str]:
    """The words of the value, to be joined by one blank each; further blanks belong to the word before."""
    return re.findall(r"\S+(?:\s+(?=\s))?", value)


def _encoded(value: str, first: int) -> Iterator[str]:
    """Encoded words. Readers ignore blanks between them, so they contain all blanks of the value.

    :param first: most characters of the first word.
    """
    most, held, octets = min(first, WORD), "", 0
    for letter in value:
        size = len(letter.encode())
        if held and not _fits(octets + size, most):
            yield _word(held)
            most, held, octets = WORD, "", 0
        held, octets = held + letter, octets + size
    if held:
        yield _word(held)


def _fits(octets: int, most: int) -> bool:
    return len(_START) + 4 * -(-octets // 3) + len(_END) <= most


def _word(value: str) -> str:
    """The encoded word, by "Q" if that is no longer than "B", since people can read it."""
    content = value.encode()
    q = "".join("_" if octet == 0x20 else chr(octet) if octet in _SAFE else f"={octet:02X}" for octet in content)
    b = base64.b64encode(content).decode()
    return f"=?utf-8?q?{q}{_END}" if len(q) <= len(b) else f"{_START}{b}{_END}"


def _folded(name: str, pieces: Iterable[str]) -> bytes:
    lines, line = [], f"{name}:"
    for piece in pieces:
        if len(line) + 1 + len(piece) > LINE and line.strip() != f"{name}:":
            lines.append(line)
            line = ""
        line += f" {piece}"
    lines.append(line)
    return "".join(f"{line}\r\n" for line in lines).encode()


def _one_line(value: str) -> str:
    if value.isascii() and value.isprintable():
        return value
    return _CONTROL.sub(" ", _BREAK.sub(" ", value))
