"""Texts that every storage can hold. Strangers write some texts, and no database accepts every text of Python."""

from __future__ import annotations

import hashlib

#: The most characters of a name to search for (a group, the key of a rate), and of a text for people.
MAX_NAME, MAX_TEXT = 512, 4000


def storable_name(text: str) -> str:
    """The name itself, or a replacement that is the same in all processes: PostgreSQL can't store a NUL, no database
    half of a surrogate pair, and an index has a size limit. Different names stay different."""
    text = _escaped(text)
    if len(text) <= MAX_NAME:
        return text
    mark = hashlib.sha256(text.encode()).hexdigest()[:32]
    return f"{text[: MAX_NAME - 33]}~{mark}"


def storable_text(text: str, most: int = MAX_TEXT) -> str:
    """A text for people, cut."""
    return _escaped(text if len(text) <= most else text[: most - 1] + "…")


def storable_json(text: str) -> str:
    """One JSON value, in which an escape is part of a string."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _escaped(text: str) -> str:
    if text.isascii():
        return text.replace("\0", "\\x00") if "\0" in text else text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
