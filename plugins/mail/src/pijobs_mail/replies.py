"""Replies of an SMTP server: how they are read, and what follows from them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

#: Bytes of one reply. RFC 5321 4.5.3.1.5 allows 512 a line; a longer one is read, too, since it decides about a mail.
#: Whoever sends more than this does not speak SMTP.
MAX_REPLY = 2 * 1024 * 1024
#: Seconds; what asks for more than this is taken for a mistake.
MAX_RETRY_AFTER = 3600.0
#: Codes by which a server says that it does not know the command, or not here.
NOT_UNDERSTOOD = (500, 501, 502, 503, 504)
_SHOWN = 200  # characters

_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)")
_CLOCK = re.compile(r"\b(?:in|after|for)\s+(\d{1,2}):(\d\d):(\d\d)\b", re.IGNORECASE)
_WAIT = re.compile(
    r"\b(?:in|after|for|wait)\s+(?:at\s+least\s+)?(\d{1,6})\s*(s|sec|seconds?|m|min|minutes?|h|hours?)\b", re.IGNORECASE
)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_GREY = re.compile(r"gr[ae]y[ -]?list", re.IGNORECASE)
_TOO_MUCH = re.compile(
    r"\btoo (many|much)\b.*\b(connections?|sessions?|messages?|mails?)\b|\brate[ -]limit|\bthrottl", re.IGNORECASE
)
#: Postfix, Haraka, Exim, KumoMTA, OpenSMTPD and Sendmail, Exchange, Gmail.
_QUEUE_ID = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"queued as ([\w.-]+)",
        r"message queued \(([\w.-]+)\)",
        r"\bids?=([\w.-]+)",
        r"^([\w.-]+) message accepted",
        r"InternalId=(\d+)",
        r"^ok:?\s+(?:\d+\s+)?([\w.-]{6,})",
    )
)


class ProtocolError(Exception):
    """What the server sent is not SMTP, or not what can come at this point."""


class Step(str, Enum):
    """Where in the conversation something happened; the value ends the sentence "the server … at"."""

    CONNECT = "connect"
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
        """Whether no mail was named yet, so that whatever goes wrong is no fault of a mail."""
        return self not in (Step.MAIL, Step.RCPT, Step.DATA, Step.END)


class Verdict(str, Enum):
    """What a reply means for the mail."""

    ACCEPTED = "accepted"
    #: This mail or recipient: later.
    DEFERRED = "deferred"
    #: This mail or recipient: never.
    REFUSED = "refused"
    #: No mail at present.
    TROUBLE = "trouble"
    #: No mail until the login of the definition is right.
    LOGIN = "login"


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply (RFC 5321 4.2).

    :ivar enhanced: the enhanced status code (RFC 3463), such as ``"4.7.1"``, if there is one of the same class.
    :ivar lines: the text, line by line, without codes.
    """

    code: int
    enhanced: str | None
    lines: tuple[str, ...]

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
            shown = f"- {shown}"  # "250 349 byte chunk" would look like a number that is to be masked
        return " ".join(part for part in (str(self.code), self.enhanced, shown) if part)

    def without(self, *secrets: str) -> Reply:
        """The same reply with secrets that the server repeated blotted out."""
        lines = self.lines
        for secret in filter(None, secrets):
            # A short one, such as the user "u", stands in half of all words.
            pattern = re.escape(secret) if len(secret) > 3 else rf"(?<!\w){re.escape(secret)}(?!\w)"
            lines = tuple(re.sub(pattern, "***", line) for line in lines)
        return Reply(self.code, self.enhanced, lines)


def take_reply(buffer: bytearray) -> Reply | None:
    """Take the first whole reply off the buffer; None while it is not whole.

    :raises ProtocolError: for what is no reply, or too long.
    """
    start, code, lines = 0, None, []
    while (end := buffer.find(b"\n", start)) >= 0:
        line = bytes(buffer[start:end]).rstrip(b"\r")
        start = end + 1
        match = _LINE.fullmatch(line)
        if match is None or (code is not None and int(match[1]) != code):
            raise ProtocolError("expected a reply of three digits and a text, found something else")
        code = int(match[1])
        lines.append((match[3] or b"").decode("utf-8", "replace"))
        if match[2] != b"-":
            del buffer[:start]
            return _reply(code, lines)
        if start > MAX_REPLY:
            break
    if len(buffer) > MAX_REPLY:
        raise ProtocolError(f"expected a reply of at most {MAX_REPLY} bytes, found more")
    return None


def _reply(code: int, lines: list[str]) -> Reply:
    match = _ENHANCED.match(lines[0])
    if match is None or match[1][0] != str(code)[0]:
        return Reply(code, None, tuple(lines))
    # RFC 2034 3: the enhanced code stands in front of the text of every line.
    return Reply(code, match[1], tuple(_ENHANCED.sub("", line, count=1) for line in lines))


def judge(reply: Reply, step: Step) -> Verdict:
    """What a reply at a step means (RFC 5321 4.2.1, 4.2.2, 4.5.3.1.10; RFC 3463 3.4 and 3.5; RFC 4954 6)."""
    if reply.code == 421:  # RFC 5321 3.8: the server closes the connection, at whatever command
        return Verdict.TROUBLE
    if reply.accepted:
        return Verdict.ACCEPTED
    if step.before_mail:
        return Verdict.LOGIN if step is Step.AUTH and not reply.temporary else Verdict.TROUBLE
    if reply.code in (530, 534, 535, 538):
        return Verdict.LOGIN
    if reply.temporary:
        return Verdict.TROUBLE if _system(reply, step) else Verdict.DEFERRED
    if step is Step.RCPT and reply.code == 552 and reply.enhanced in (None, "5.5.3"):
        return Verdict.DEFERRED  # RFC 5321 4.5.3.1.10: "too many recipients" by an old server
    return Verdict.REFUSED


def _system(reply: Reply, step: Step) -> bool:
    """Whether a 4xx is about the server rather than about this mail or recipient."""
    if reply.enhanced is None:
        return reply.code == 452 and step is Step.MAIL  # insufficient system storage
    # X.3.X mail system status but "message too big"; X.4.5 mail system congestion
    return (reply.enhanced.startswith("4.3.") and reply.enhanced != "4.3.4") or reply.enhanced == "4.4.5"


def wants_fewer(reply: Reply) -> bool:
    """Whether a server says that it is given too much at once: 421; 450 or 451 with an enhanced code 4.7.X (RFC 3463
    3.8); or words for it. Greylisting is none of that, though some servers give it the same code."""
    if not reply.temporary or _GREY.search(reply.text):
        return False
    policy = reply.code in (450, 451) and (reply.enhanced or "").startswith("4.7.")
    return reply.code == 421 or policy or _TOO_MUCH.search(reply.text) is not None


def retry_after(reply: Reply) -> float | None:
    """Seconds after which the server wants to be tried again, if it says so ("greylisted for 300 seconds")."""
    if match := _CLOCK.search(reply.text):
        wait = int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3])
    elif match := _WAIT.search(reply.text):
        wait = int(match[1]) * _SECONDS[match[2][0].lower()]
    else:
        return None
    return float(wait) if 0 < wait <= MAX_RETRY_AFTER else None


def queue_id(reply: Reply) -> str | None:
    """The id under which the server goes on with the mail, to find it in the server's log."""
    return next((match[1] for pattern in _QUEUE_ID if (match := pattern.search(reply.text))), None)


def fit_together(begun: list[Reply], recipients: list[Reply], last: Reply) -> bool:
    """Whether the replies to one flight can be those to its commands, none too many and none too few.

    The reply to an accepted content alone tells the id of the mail; one to another command in its place does not.

    :param begun: to RSET, if it was sent, and MAIL.
    :param last: to the content.
    """
    if any(map(queue_id, [*begun, *recipients])):
        return False
    taken = any(reply.accepted for reply in recipients)
    if last.accepted:
        return taken and all(reply.accepted for reply in begun) and queue_id(last) is not None
    return not taken or last.code not in NOT_UNDERSTOOD
