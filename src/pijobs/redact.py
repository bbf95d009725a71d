"""Keeps addresses, one-time passwords and job arguments out of whatever people read.

Nothing here knows what a secret looks like; it masks what an authentication server handles: mail addresses, runs of
digits long enough to be an OTP or a phone number, passwords in URLs, and every text that is an argument of the job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

MAX_LENGTH = 400  # characters; an error is a line, not a page
_ADDRESS = re.compile(r"([\w.!#$%&'*+/=?^`{|}~-])[\w.!#$%&'*+/=?^`{|}~-]*@((?:[\w-]+\.)*[\w-]+)")
_DIGITS = re.compile(r"(?<![\w.:])\+?\d(?:[ -]?\d){5,}(?![\w.:]?\w)")
_URL_LOGIN = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*@")
_SHORTEST = 4  # characters; shorter arguments ("a", "25") would mask half of every sentence


def mask_address(address: str) -> str:
    """``a***@example.com``: enough to recognise, too little to use."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}" if at else f"{address[:1]}***"


def mask_number(number: str) -> str:
    """``+49***12`` for a phone number."""
    return f"{number[:3]}***{number[-2:]}" if len(number) > 7 else "***"


def redact(text: str, known: Iterable[str] = ()) -> str:
    """One line without addresses, long numbers, URL passwords and the ``known`` texts."""
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, mask_address(secret) if _ADDRESS.fullmatch(secret) else "***")
    text = _URL_LOGIN.sub("***@", text)
    text = _ADDRESS.sub(lambda match: f"{match[1]}***@{match[2]}", text)
    text = " ".join(_DIGITS.sub("***", text).split())
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"


def texts_in(value: object) -> Iterator[str]:
    """Every text in a job's arguments, and its single words with a digit in them, such as an OTP in a sentence."""
    if isinstance(value, str):
        if len(value) >= _SHORTEST:
            yield value
        yield from (word for word in re.findall(r"\w+", value) if len(word) >= _SHORTEST and re.search(r"\d", word))
    elif isinstance(value, bytes):
        yield from texts_in(value.decode("utf-8", "replace"))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from texts_in(item)
    elif hasattr(value, "as_string"):
        yield from texts_in(value.as_string())


def describe(error: BaseException, known: Iterable[str] = ()) -> str:
    """An error for people: its class, and its message as far as that may be shown."""
    message = redact(str(error), known)
    name = type(error).__name__
    return f"{name}: {message}" if message else name
