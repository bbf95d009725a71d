"""Masks: what is shown instead of an address, a number, or a value in a URL."""

from __future__ import annotations

import re

LOCAL = r"\w.!#$%&'*+/=?^`{|}~-"

# RFC 5321, 4.1.2: the local part may be quoted, the domain an address literal. A match begins where a local part
# begins, and no two repeats share a letter, so that a long text without an address costs one pass.
ADDRESS = re.compile(rf"""((?<![{LOCAL}])[{LOCAL}]+|"[^"@]*")@((?:[\w-]+\.)*[\w-]+|\[[^\]\s\[@]{{1,255}}\])""")


def mask_address(address: str) -> str:
    """``a***@example.com``: enough to recognise, too little to use."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}" if at else f"{address[:1]}***"


def mask_number(number: str) -> str:
    """``+49***12`` for a phone number."""
    return f"{number[:3]}***{number[-2:]}" if len(number) > 7 else "***"


_VALUE = re.compile(r"([?&])([^=&\s'\"]*)=([^&\s'\"]*)")

_SECRET_NAME = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)

#: Values of database URLs that are no secret: numbers, words that drivers know, paths.
_PLAIN_VALUE = re.compile(
    r"[0-9]{1,5}(?:\.[0-9]{1,3})?|true|false|yes|no|none|optional|required?|verify-(?:ca|full)|prefer|allow|disable"
    r"|utf8(?:mb[34])?|/[\w./-]*",
    re.IGNORECASE,
)


def masked_query(url: str) -> str:
    """A URL, or a text with one, without the values after its "?" that may be a misplaced password."""

    def shown(match: re.Match[str]) -> str:
        plain = _PLAIN_VALUE.fullmatch(match[3]) and not _SECRET_NAME.search(match[2])
        return match[0] if plain else f"{match[1]}{match[2]}=********"

    return _VALUE.sub(shown, url)


def mask_of(text: str) -> str:
    return mask_address(text) if "@" in text and ADDRESS.fullmatch(text) else "***"
