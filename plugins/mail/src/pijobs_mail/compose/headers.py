"""Header fields of a mail, written by RFC 5322 2.2.3 and RFC 2047.

Each line that is written here was meant: a value can neither end its field nor begin another one. The standard
library's writer makes encoded words that are too long and loses quotes and blanks before Python 3.13, and takes a
quarter of the time of an OTP mail.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator

from pijobs_mail.compose.addresses import Mailbox

#: Characters of a line that holds an encoded word, and of an encoded word (RFC 2047 2). Other lines keep to it, too.
LINE, WORD = 76, 75
#: Characters that a line may have at most (RFC 5322 2.1.1), a little less for what a relay puts in front.
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
    """A field with addresses, such as To. One beyond ASCII stays as it is: the mail then needs SMTPUTF8 (RFC 6532)."""
    pieces: list[str] = []
    for box in boxes:
        if pieces:
            pieces[-1] += ","
        pieces += _mailbox(box)
    return _folded(name, pieces)


def token(name: str, value: str) -> bytes:
    """A field whose value is ours and has no blank to fold at that matters, such as Date or Message-ID."""
    assert not _BREAK.search(value)
    return f"{name}: {value}\r\n".encode("ascii")


def _mailbox(box: Mailbox) -> list[str]:
    """The pieces of an address; a line can end between two of them."""
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
    """A quoted string; it may be folded at a single blank, which belongs to its text (RFC 5322 3.2.4)."""
    return _words('"' + re.sub(r'(["\\])', r"\\\1", shown) + '"')


def _is_plain(value: str) -> bool:
    """Whether it can stand as it is: printable ASCII without what somebody could take for an encoded word, and without
    blanks at its ends, which would be lost."""
    return bool(_PLAIN.fullmatch(value)) and "=?" not in value and max(map(len, value.split(" "))) < LONGEST_LINE


def _words(value: str) -> list[str]:
    """Pieces that give the value when they are joined by one blank each; further blanks stay with the word before."""
    return re.findall(r"\S+(?:\s+(?=\s))?", value)


def _encoded(value: str, first: int) -> Iterator[str]:
    """Encoded words. Blanks between them do not count, so their own text holds all of them.

    :param first: characters that the first of them may have.
    """
    most, held, octets = min(first, WORD), "", 0
    for letter in value:
        size = len(letter.encode())
        if held and not _fits(held + letter, octets + size, most):
            yield _word(held)
            most, held, octets = WORD, "", 0
        held, octets = held + letter, octets + size
    if held:
        yield _word(held)


def _fits(value: str, octets: int, most: int) -> bool:
    return len(_START) + 4 * -(-octets // 3) + len(_END) <= most


def _word(value: str) -> str:
    """By "Q" where that is no longer: it can be read."""
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
