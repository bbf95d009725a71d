"""Keeps addresses, one-time passwords and job arguments out of whatever people read.

Nothing here knows what a secret looks like; it masks what an authentication server handles: mail addresses, runs of
digits long enough to be an OTP or a phone number, passwords in URLs, and every text that is an argument of the job.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message

MAX_LENGTH = 400  # characters; an error is a line, not a page
_LOCAL = r"\w.!#$%&'*+/=?^`{|}~-"
# RFC 5321, 4.1.2: the local part may be quoted, the domain an address literal. A match begins where a local part
# begins, so that a long text without an address costs one pass.
_ADDRESS = re.compile(rf"""(?:(?<![{_LOCAL}])(/*[{_LOCAL}])[{_LOCAL}]*|"[^"@]*")@((?:[\w-]+\.)*[\w-]+|\[[^\]\s]+\])""")
# Not the digits of a date (2026-11-23), of a number with a point, or of a time.
_DIGITS = re.compile(r"(?<!\w)(?<!\d[.:])(?!\d{4}-\d\d-\d\d(?!\d))\+?\d(?:[ -]?\d){5,}(?!\w|[.:]\d)")
_URL_LOGIN = re.compile(r"(?<=://)[^/\s]*:[^/\s]*@")
# In the line that a web server writes about a request.
_PARAMETER = re.compile(r"(?<=password=)[^&\s\"']+")
# What libraries quote: SQLAlchemy the statement and its parameters, redis-py the command of a pipeline.
_QUOTED = re.compile(r"\[(?:SQL|parameters): .*|(?<=\bCommand # )(\d+) \(.*\) of pipeline", re.DOTALL)
_SHORTEST = 4  # characters; shorter arguments ("a", "25") would mask half of every sentence


def mask_address(address: str) -> str:
    """``a***@example.com``: enough to recognise, too little to use."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}" if at else f"{address[:1]}***"


def mask_number(number: str) -> str:
    """``+49***12`` for a phone number."""
    return f"{number[:3]}***{number[-2:]}" if len(number) > 7 else "***"


def redact(text: str, known: Iterable[str] = ()) -> str:
    """One line without addresses, long numbers, URL passwords, the ``known`` texts, and what terminals take for
    commands."""
    if "[SQL" in text or "[param" in text or "Command # " in text:
        text = _QUOTED.sub(lambda match: f"{match[1]} of a pipeline" if match[1] else "", text)
    for secret in sorted(known, key=len, reverse=True):
        mask = mask_address(secret) if _ADDRESS.fullmatch(secret) else "***"
        for form in _forms(secret):
            if form in text:
                # Whole words only: an argument "mail" must not mask half of "mailbox".
                text = mask.join(re.split(rf"(?<!\w){re.escape(form)}(?!\w)", text))
    if "@" in text:  # most lines have none, and every line of a log comes by here
        text = _ADDRESS.sub(lambda match: f"{match[1] or ''}***@{match[2]}", text)
        text = _URL_LOGIN.sub("***@", text)
    if "password=" in text:
        text = _PARAMETER.sub("***", text)
    text = " ".join(_DIGITS.sub("***", text).split())
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"


def _forms(secret: str) -> set[str]:
    """A text as it may stand in a message: as it is, or as ``repr`` writes it and its UTF-8 bytes."""
    return {secret, repr(secret)[1:-1], ascii(secret)[1:-1], repr(secret.encode("utf-8", "replace"))[2:-1]}


def texts_in(value: object) -> Iterator[str]:
    """Every text and number in a job's arguments, each line of it, and its words with a digit in them, such as an OTP
    in a sentence."""
    if isinstance(value, str):
        pieces = {value, *(line.strip() for line in value.splitlines())}
        pieces |= {word for word in re.findall(r"\w+", value) if re.search(r"\d", word)}
        yield from (piece for piece in pieces if len(piece) >= _SHORTEST)
    elif isinstance(value, int) and not isinstance(value, bool):
        # Longer ones are no OTP, and Python refuses to write some of them.
        yield from texts_in(str(value) if abs(value) < 10**20 else "")
    elif isinstance(value, bytes):
        yield from texts_in(value.decode("utf-8", "replace"))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from texts_in(item)
    elif isinstance(value, Message):
        with contextlib.suppress(Exception):  # one that can't be written can't be quoted either
            yield from texts_in(value.as_string())


def describe(error: BaseException, known: Iterable[str] = ()) -> str:
    """An error for people: its class, and its message as far as that may be shown."""
    try:
        message = redact(str(error), known)
    except Exception:  # its own __str__ failed
        message = ""
    name = type(error).__name__
    return f"{name}: {message}" if message else name
