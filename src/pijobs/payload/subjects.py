"""Normalises a login name, an address or a number before it is hashed, so that each spelling finds it."""

from __future__ import annotations

import re

#: A telephone number, with the signs that people put between its digits.
_NUMBER = re.compile(r"[+(]?[\d\s()/.-]+")
#: Fewest digits of a telephone number; fewer are the number of an employee, or of a room.
_SHORTEST = 7
#: Only the last digits count, so that ``0170 1234567`` finds ``+49 170 1234567``, as telephones do to show a caller's
#: name. Eight digits are the shortest numbers of whole countries.
_LAST = 8


def spelled(text: str) -> str:
    """The normal form: the last digits of a number; other texts in lower case."""
    # Half of a surrogate pair, which JSON can contain, can't be hashed.
    text = text.encode(errors="replace").decode().strip()
    digits = re.sub(r"\D", "", text) if _NUMBER.fullmatch(text) else ""
    return f"number {digits[-_LAST:]}" if len(digits) >= _SHORTEST else text.lower()
