"""Replies of an SMTP server, and their parser. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

#: The most bytes of one reply that are read. RFC 5321 4.5.3.1.5 allows 512 a line. A longer line is read, too, because
#: it decides about a mail. A server that sends more than this, or more lines, does not speak SMTP.
MAX_REPLY = 2 * 1024 * 1024
MAX_LINES = 1000
#: The most characters of one reply, and of each line, that are kept: foreign text is cut before it is read.
KEPT, KEPT_OF_LINE = 8192, 512
_SHOWN = 200  # characters

_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?=\s|$)")


class ProtocolError(Exception):
    """The input is not SMTP, or not allowed at this point."""


class Step(str, Enum):
    """A step of the conversation; the value completes the sentence "the server … at"."""

    GREETING = "greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    END = "end of data"

    def __str__(self) -> str:
        return self.value

    @property
    def before_mail(self) -> bool:
        """Whether no mail has begun, so that a failure is not the fault of a mail."""
        return self not in (Step.MAIL, Step.RCPT, Step.DATA, Step.END)


class Verdict(str, Enum):
    """The meaning of a reply for the mail."""

    ACCEPTED = "accepted"
    #: This mail or recipient: later.
    DEFERRED = "deferred"
    #: This mail or recipient: never.
    REFUSED = "refused"
    #: No mail now.
    TROUBLE = "trouble"
    #: No mail until the login of the definition is right.
    LOGIN = "login"


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply (RFC 5321 4.2). At most the first :data:`KEPT` characters of its text are kept.

    :ivar enhanced: the enhanced status code (RFC 3463), such as ``"4.7.1"``, if there is one of the same class.
    :ivar lines: the text, line by line, without codes.
    """

    code: int
    enhanced: str | None
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if sum(map(len, self.lines)) > KEPT_OF_LINE or len(self.lines) > MAX_LINES:
            object.__setattr__(self, "lines", _cut(self.lines))

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.lines).split())

    @property
    def accepted(self) -> bool:
        return self.code < 300

    @property
    def temporary(self) -> bool:
        return 400 <= self.code < 500

    def __str__(self) -> str:
        text = "".join(letter if letter.isprintable() else "?" for letter in self.text)
        shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
        if shown[:1].isdigit() and not self.enhanced:
            shown = f"- {shown}"  # "250 349 byte chunk" would look like a number that must be masked
        return " ".join(part for part in (str(self.code), self.enhanced, shown) if part)

    def without(self, *secrets: str) -> Reply:
        """The same reply, with secrets that the server repeated masked."""
        lines = self.lines
        for secret in filter(None, secrets):
            # A short one, such as the user "u", is in half of all words.
            pattern = re.escape(secret) if len(secret) > 3 else rf"(?<!\w){re.escape(secret)}(?!\w)"
            lines = tuple(re.sub(pattern, "***", line) for line in lines)
        return Reply(self.code, self.enhanced, lines)


def _cut(lines: tuple[str, ...]) -> tuple[str, ...]:
    left, kept = KEPT, []
    for line in lines[:MAX_LINES]:
        if left <= 0:
            break
        kept.append(line[: min(left, KEPT_OF_LINE)])
        left -= len(kept[-1])
    return tuple(kept)


class Replies:
    """Parses replies from the bytes of a connection. Each byte is read once, and a long text is not kept."""

    def __init__(self) -> None:
        self._coming = bytearray()
        self._searched = 0
        self._code: int | None = None
        self._lines: list[str] = []
        self._size = 0

    def __bool__(self) -> bool:
        """Whether there is input that was not taken yet."""
        return bool(self._coming or self._lines)

    def feed(self, content: bytes) -> None:
        """Add received bytes."""
        self._coming += content

    def take(self) -> Reply | None:
        """The next reply; None if it is not complete yet.

        :raises ProtocolError: the input is not a reply, or is too long.
        """
        while (end := self._coming.find(b"\n", self._searched)) >= 0:
            line = bytes(self._coming[:end]).rstrip(b"\r")
            del self._coming[: end + 1]
            self._searched = 0
            self._size += end + 1
            if self._is_last(line[: KEPT_OF_LINE + 4]):
                reply = _reply(self._code or 0, self._lines)
                self._code, self._lines, self._size = None, [], 0
                return reply
        self._searched = len(self._coming)
        if self._size + self._searched > MAX_REPLY:
            raise ProtocolError(f"expected a reply of at most {MAX_REPLY} bytes, found more")
        return None

    def _is_last(self, line: bytes) -> bool:
        match = _LINE.fullmatch(line)
        if match is None or self._code not in (None, int(match[1])):
            raise ProtocolError("expected a reply of three digits and a text, found something else")
        if len(self._lines) >= MAX_LINES:
            raise ProtocolError(f"expected a reply of at most {MAX_LINES} lines, found more")
        self._code = int(match[1])
        self._lines.append((match[3] or b"").decode("utf-8", "replace"))
        return match[2] != b"-"


def _reply(code: int, lines: list[str]) -> Reply:
    match = _ENHANCED.match(lines[0])
    if match is None or match[1][0] != str(code)[0]:
        return Reply(code, None, tuple(lines))
    # RFC 2034 3: every line begins with the enhanced code.
    return Reply(code, match[1], tuple(_plain(line) for line in lines))


def _plain(line: str) -> str:
    match = _ENHANCED.match(line)
    return line[match.end() :].lstrip() if match else line
