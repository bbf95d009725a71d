"""Keeps addresses, one-time passwords and job arguments out of everything that people read. It can't recognise secrets
in general, but masks what an authentication server handles: mail addresses, runs of digits long enough to be an OTP or
a phone number, passwords in URLs, and every text that is an argument of the job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import zip_longest

from pijobs.base.foreign import MOST, cut, decoded, runs
from pijobs.base.known_texts import NOTHING_KNOWN, Known
from pijobs.base.masks import ADDRESS, mask_address, mask_number  # noqa: F401 - here in 0.1

LAYERS = 3  # encodings that contain a secret
MAX_LENGTH = 400  # characters; an error is a line, not a page
# Not the digits of a date (2026-11-23), of a number with a point, or of a time.
_DIGITS = re.compile(r"(?<!\w)(?<!\d[.:])(?!\d{4}-\d\d-\d\d(?!\d))\+?\d(?:[ -]?\d){5,}(?!\w|[.:]\d)")
_URL_LOGIN = re.compile(r"(?<=://)[^/\s:]*:[^/\s]*@")
# The id of a periodic instance: the name of its job, and its due time (ms). It is no address, because its "domain" is a
# number.
_PERIODIC_ID = re.compile(r"(?<![\w.@-])[a-z0-9_]+(?:\.[a-z0-9_]+)+@\d{13}(?![\w.@-])")
# In the line that a web server writes about a request.
_PARAMETER = re.compile(r"(?<=password=)[^&\s\"']+")
# What libraries quote: SQLAlchemy the statement and its parameters, redis-py the command of a pipeline.
_STATEMENT = re.compile(r"\[(?:SQL|parameters): ")
_COMMAND, _PIPELINE = re.compile(r"\bCommand # (\d{1,9}) \("), ") of pipeline"


def text_of(value: object) -> str:
    """``str(value)``, or the name of its class if its own ``__str__`` fails."""
    try:
        # A subclass of str may have failing methods, too.
        return str.__str__(str(value))
    except Exception:
        return f"a {class_name(value)}"


def class_name(value: object) -> str:
    """The name of a value's class for people: a name made at run time may contain anything."""
    return redact(type(value).__name__)[:100]


def redact(text: str, known: Iterable[str] | Known = ()) -> str:
    """One line without addresses, long numbers, URL passwords, the ``known`` texts, and control sequences of terminals.
    Only the beginning of a long text is read and shown. Encoded forms (of URLs, HTML, JSON, MIME, Base64, hexadecimal)
    are masked, too.
    """
    if not isinstance(known, Known):
        known = Known(cut(one) for one in known) if known else NOTHING_KNOWN
    shortened = len(text) > MOST
    text = _hidden(_without_quotes(cut(text)), known)
    for _ in range(LAYERS):
        hidden = next((found for plain in decoded(text) if (found := _hidden(plain, known)) != plain), None)
        if hidden is None:
            break
        text = hidden
    return _one_line(text, shortened)


def _one_line(text: str, shortened: bool) -> str:
    text = " ".join(text.split())
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if shortened and len(text) <= MAX_LENGTH:
        # Nearly everything was masked. Its end may be a part of a secret that can't be recognised.
        text = text[: -(MAX_LENGTH // 2)] + "…"
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"


def _without_quotes(text: str) -> str:
    if "[SQL: " in text or "[parameters: " in text:
        text = _STATEMENT.split(text, maxsplit=1)[0]
    if "Command # " in text and (begin := _COMMAND.search(text)):
        end = text.rfind(_PIPELINE, begin.end())
        if end >= 0:
            text = f"{text[: begin.start()]}Command # {begin[1]} of a pipeline{text[end + len(_PIPELINE) :]}"
    return text


def _hidden(text: str, known: Known) -> str:
    if known:
        text = known.hide(text)
        text = _without_runs(text, known)
    if "password=" in text:
        text = _PARAMETER.sub("***", text)
    ids = _PERIODIC_ID.findall(text) if "@" in text else []
    if not ids:
        return _masked(text)
    masked = map(_masked, _PERIODIC_ID.split(text))
    return "".join(piece + shown for piece, shown in zip_longest(masked, ids, fillvalue=""))


def _without_runs(text: str, known: Known) -> str:
    """The line without known texts in Base64 or hexadecimal; first in single words, then over several."""
    for several in (False, True):
        found = list(runs(text, several=several))
        together = "\n".join(plain for _, readings in found for plain in readings)
        if not together.strip() or known.hide(together) == together:
            continue
        for (start, end), readings in reversed(found):
            if any(known.hide(plain) != plain for plain in readings):
                text = f"{text[:start]}***{text[end:]}"
    return text


def _masked(text: str) -> str:
    if "@" in text:  # most lines have none, and every line of a log is checked
        text = ADDRESS.sub(_masked_address, text)
        text = _URL_LOGIN.sub("***@", text)
    return _DIGITS.sub("***", text)


def _masked_address(match: re.Match[str]) -> str:
    if match[1].startswith(('"', "*")):
        return f"***@{match[2]}"
    local = match[1].lstrip("/")  # of a URL: http://user@host
    return f"{match[1].removesuffix(local)}{local[:1]}***@{match[2]}"


def describe(error: BaseException, known: Iterable[str] | Known = ()) -> str:
    """An error for people: its class, and its message as far as it may be shown."""
    name, message = class_name(error), message_of(error, known)
    return f"{name}: {message}" if message else name


def message_of(error: BaseException, known: Iterable[str] | Known = ()) -> str:
    """The message of an error as far as it may be shown; empty if its own ``__str__`` fails."""
    try:
        return redact(str.__str__(str(error)), known)
    except Exception:
        return ""
