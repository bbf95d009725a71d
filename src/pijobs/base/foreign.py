"""Texts that strangers send: a reply, an answer, an error of a library, a field of a request.

They are cut before anything looks at them, and looked at behind their encodings: a gateway that repeats its request
writes a number as ``%2B4917…``, ``&#43;4917…``, ``\\u002b4917…``, or as Base64.
"""

from __future__ import annotations

import binascii
import functools
import html
import re
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import unquote

T = TypeVar("T", str, bytes)

#: Characters of a stranger's text (bytes, of bytes) that anything looks at.
MOST = 4096
#: How deep encodings may be nested, and how many readings of a text there may be.
_DEPTH, _READINGS = 3, 12
# Bounded, and without two repeats that could share a letter: a search takes one pass.
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([/\"'\\]))")
_QUOTED_PRINTABLE = re.compile(r"(?:=[0-9A-Fa-f]{2})+")
#: Base64 (RFC 4648 4 and 5) or hexadecimal digits, long enough for four octets.
_RUN = re.compile(r"[A-Za-z0-9+/_-]{6,}={0,2}")
#: The letters of RFC 4648 5 as those of 4.
_STANDARD = str.maketrans("-_", "+/")
_HEXADECIMAL = re.compile(r"(?:[0-9a-fA-F]{2}){4,}")


def cut(text: T, most: int = MOST) -> T:
    """The beginning of a stranger's text: what is used of it, and all that may be searched."""
    return text if len(text) <= most else text[:most]


def decoded(text: str) -> Iterator[str]:
    """What the text may stand for: each encoding undone, alone and on top of others.

    :param text: a short one, see :func:`cut`.
    """
    seen, layer = {text}, [text]
    for _ in range(_DEPTH):
        above, layer = layer, []
        for one in above:
            for letter, decode in _DECODERS:
                if letter in one and (plain := decode(one)) not in seen:
                    if len(seen) > _READINGS:
                        return
                    seen.add(plain)
                    layer.append(plain)
                    yield plain


def runs(text: str) -> Iterator[tuple[tuple[int, int], str]]:
    """Where Base64 or hexadecimal digits may stand, and each text that they may stand for."""
    for match in _RUN.finditer(text):
        found = match[0].rstrip("=")
        if found.islower() and found.isalpha():
            continue  # a word: the Base64 of a text has capitals or digits
        yield from ((match.span(), plain) for plain in _readings(found))


# The id of a mail stands in several texts about it.
@functools.lru_cache(maxsize=32)
def _readings(run: str) -> tuple[str, ...]:
    found = []
    # Who puts a text in front of a secret shifts its Base64 by one, two or three letters.
    for decode, start in ((_base64, 0), (_base64, 1), (_base64, 2), (_base64, 3), (_hexadecimal, 0), (_hexadecimal, 1)):
        try:
            octets = decode(run[start:])
        except ValueError:
            continue
        # Of what is worth a secret, UTF-16 has a NUL in it.
        charsets = ("utf-16-be", "utf-16-le", "utf-8") if b"\0" in octets else ("utf-8",)
        found += [octets.decode(charset, "replace") for charset in charsets if octets]
    return tuple(found)


def _base64(text: str) -> bytes:
    text = text[: len(text) - (len(text) % 4 == 1)]
    return binascii.a2b_base64(text.translate(_STANDARD) + "=" * (-len(text) % 4))


def _hexadecimal(text: str) -> bytes:
    found = _HEXADECIMAL.match(text)
    return bytes.fromhex(found[0]) if found else b""


def _unescaped(text: str) -> str:
    def letter(match: re.Match[str]) -> str:
        return match[3] or chr(int(match[1] or match[2], 16))

    return _ESCAPE.sub(letter, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unprinted(text: str) -> str:
    return _QUOTED_PRINTABLE.sub(
        lambda match: bytes.fromhex(match[0].replace("=", "")).decode("utf-8", "replace"), text
    )


#: A letter that each encoding needs, and what undoes it.
_DECODERS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("%", unquote), ("&", html.unescape), ("\\", _unescaped), ("=", _unprinted),
)  # fmt: skip
