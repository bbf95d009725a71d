"""How a person, an address or a number is written before it is hashed: however people write it, it is found again."""

from __future__ import annotations

import re

#: What may be a telephone number: signs that people put between its digits.
_NUMBER = re.compile(r"[+(]?[\d\s()/.-]+")
#: Digits of the shortest number; fewer are the number of an employee, or of a room.
_SHORTEST = 7
#: The last digits that a number is known by. With them ``0170 1234567`` finds ``+49 170 1234567``, as telephones
#: themselves look for the name of a caller; eight are the shortest numbers of whole countries.
_LAST = 8


def spelled(text: str) -> str:
    """The one spelling of all that mean the same: of a number its last digits, of all else lower case."""
    # Half a letter, which JSON can bring, has no bytes to be hashed.
    text = text.encode(errors="replace").decode().strip()
    digits = re.sub(r"\D", "", text) if _NUMBER.fullmatch(text) else ""
    return f"number {digits[-_LAST:]}" if len(digits) >= _SHORTEST else text.lower()
