"""Keeps addresses, one-time passwords and job arguments out of whatever people read.

Nothing here knows what a secret looks like; it masks what an authentication server handles: mail addresses, runs of
digits long enough to be an OTP or a phone number, passwords in URLs, and every text that is an argument of the job.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from itertools import zip_longest

MAX_LENGTH = 400  # characters; an error is a line, not a page
_LOCAL = r"\w.!#$%&'*+/=?^`{|}~-"
# RFC 5321, 4.1.2: the local part may be quoted, the domain an address literal. A match begins where a local part
# begins, so that a long text without an address costs one pass.
_ADDRESS = re.compile(rf"""(?:(?<![{_LOCAL}])(/*[{_LOCAL}])[{_LOCAL}]*|"[^"@]*")@((?:[\w-]+\.)*[\w-]+|\[[^\]\s]+\])""")
# Not the digits of a date (2026-11-23), of a number with a point, or of a time.
_DIGITS = re.compile(r"(?<!\w)(?<!\d[.:])(?!\d{4}-\d\d-\d\d(?!\d))\+?\d(?:[ -]?\d){5,}(?!\w|[.:]\d)")
_URL_LOGIN = re.compile(r"(?<=://)[^/\s]*:[^/\s]*@")
# The id of a periodic instance: the name of its job, and its due time (ms). No address: its "domain" is a number.
_PERIODIC_ID = re.compile(r"(?<![\w.@-])[a-z0-9_]+(?:\.[a-z0-9_]+)+@\d{13}(?![\w.@-])")
# In the line that a web server writes about a request.
_PARAMETER = re.compile(r"(?<=password=)[^&\s\"']+")
# What libraries quote: SQLAlchemy the statement and its parameters, redis-py the command of a pipeline.
_QUOTED = re.compile(r"\[(?:SQL|parameters): .*|(?<=\bCommand # )(\d+) \(.*\) of pipeline", re.DOTALL)
_WORD = re.compile(r"\w+")
_SHORTEST = 4  # characters; shorter arguments ("a", "25") would mask half of every sentence


def mask_address(address: str) -> str:
    """``a***@example.com``: enough to recognise, too little to use."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}" if at else f"{address[:1]}***"


def mask_number(number: str) -> str:
    """``+49***12`` for a phone number."""
    return f"{number[:3]}***{number[-2:]}" if len(number) > 7 else "***"


class Known:
    """Texts that nobody may read, prepared for many calls of :func:`redact`.

    Each text is filed under its longest word, so that a line is compared with the few texts that it may contain and
    not with all of them: a job may have thousands.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        #: Spelling and its mask, by the longest word of the spelling; without a word under "".
        self._by_word: dict[str, list[tuple[str, str]]] = {}
        for text in set(texts):
            mask = mask_address(text) if _ADDRESS.fullmatch(text) else "***"
            for form in _forms(text):
                word = max(_WORD.findall(form), key=len, default="")
                self._by_word.setdefault(word, []).append((form, mask))

    def hide(self, text: str) -> str:
        """The text with a mask in place of each known one."""
        if not self._by_word:
            return text
        words = self._by_word.keys() & {"", *_WORD.findall(text)}
        found = [pair for word in words for pair in self._by_word[word] if pair[0] in text]
        for form, mask in sorted(found, key=lambda pair: len(pair[0]), reverse=True):
            # Whole words only: an argument "mail" must not mask half of "mailbox".
            text = mask.join(re.split(rf"(?<!\w){re.escape(form)}(?!\w)", text))
        return text


def text_of(value: object) -> str:
    """``str(value)``, or the name of its class if its own ``__str__`` fails."""
    try:
        # A subclass of str may have methods that fail, too.
        return str.__str__(str(value))
    except Exception:
        return f"a {class_name(value)}"


def class_name(value: object) -> str:
    """The name of a value's class as people may see it: a name made at run time may hold anything."""
    return redact(type(value).__name__)[:100]


def redact(text: str, known: Iterable[str] | Known = ()) -> str:
    """One line without addresses, long numbers, URL passwords, the ``known`` texts, and what terminals take for
    commands."""
    if "[SQL" in text or "[param" in text or "Command # " in text:
        text = _QUOTED.sub(lambda match: f"{match[1]} of a pipeline" if match[1] else "", text)
    if known != ():
        text = (known if isinstance(known, Known) else Known(known)).hide(text)
    if "password=" in text:
        text = _PARAMETER.sub("***", text)
    ids = _PERIODIC_ID.findall(text) if "@" in text else []
    if ids:
        masked = map(_masked, _PERIODIC_ID.split(text))
        text = "".join(piece + shown for piece, shown in zip_longest(masked, ids, fillvalue=""))
    else:
        text = _masked(text)
    text = " ".join(text.split())
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"


def _masked(text: str) -> str:
    if "@" in text:  # most lines have none, and every line of a log comes by here
        text = _ADDRESS.sub(lambda match: f"{match[1] or ''}***@{match[2]}", text)
        text = _URL_LOGIN.sub("***@", text)
    return _DIGITS.sub("***", text)


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


def describe(error: BaseException, known: Iterable[str] | Known = ()) -> str:
    """An error for people: its class, and its message as far as that may be shown."""
    name, message = class_name(error), message_of(error, known)
    return f"{name}: {message}" if message else name


def message_of(error: BaseException, known: Iterable[str] | Known = ()) -> str:
    """The message of an error as far as it may be shown; empty if its own ``__str__`` fails."""
    try:
        return redact(str.__str__(str(error)), known)
    except Exception:
        return ""
