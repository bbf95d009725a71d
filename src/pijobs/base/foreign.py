"""Texts that strangers send: a reply, an answer, an error of a library, a field of a request. They are cut before
anything reads them, and searched with their encodings undone: a gateway that repeats its request writes a number as
``%2B4917…``, ``&#43;4917…``, ``\\u002b4917…``, or as Base64.
"""

from __future__ import annotations

import binascii
import functools
import html
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import unquote

T = TypeVar("T", str, bytes)

#: The most characters (or bytes) of a stranger's text that anything reads.
MOST = 4096
#: The deepest nesting of encodings, and the most decoded versions of a text.
_DEPTH, _READINGS = 3, 12
# Bounded, and without two repeats that could share a letter: a search takes one pass.
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,6})\}|U([0-9a-fA-F]{8})|([/\"'\\]))")
_OCTAL = re.compile(r"(?:\\[0-3][0-7]{2})+")
_QUOTED_PRINTABLE = re.compile(r"(?:=[0-9A-Fa-f]{2})+")
_SOFT_BREAK = re.compile(r"=[ \t]?\r?\n")
#: ECMAScript's escape(), and the standard's way to write a letter.
_UNICODE_URL = re.compile(r"%u([0-9a-fA-F]{4})")
_CODE_POINT = re.compile(r"U\+([0-9a-fA-F]{4,6})[ ,;]?")
#: Base64 (RFC 4648 4 and 5) or hexadecimal digits, long enough for four octets.
_RUN = re.compile(r"[A-Za-z0-9+/_-]{6,}={0,2}")
#: The same in several pieces: octets with signs between them, lines of MIME. A piece of Base64 has a capital or digit.
_PIECE = r"[a-z]*[A-Z0-9+/][A-Za-z0-9+/_-]*"
_SEVERAL = re.compile(
    rf"(?<![A-Za-z0-9+/_-])(?:(?:0[xX])?[0-9a-fA-F]{{2}}(?:[ :,-]{{1,2}}(?:0[xX])?[0-9a-fA-F]{{2}}){{3,}}"
    rf"|{_PIECE}(?:[ \r\n]{{1,2}}{_PIECE})+={{0,2}})"
)
_BETWEEN = re.compile(r"[ \r\n:,-]+(?:0[xX])?")
#: A decoded version without that many letters in a row is noise: the id of a mail is not Base64, but can be decoded as
#: such.
_LEGIBLE = re.compile("[^\ufffd]{4}")
#: Decoded versions of a longer run are not decoded again.
_NESTED = 400
#: The letters of RFC 4648 5 as those of 4.
_STANDARD = str.maketrans("-_", "+/")
_HEXADECIMAL = re.compile(r"(?:[0-9a-fA-F]{2}){4,}")
_NO_LETTER = re.compile(r"[^a-z0-9]+")


def squeezed(text: str) -> str:
    """Letters and digits alone, in small letters and without accents: they stay the same if somebody writes a text in
    capitals, in pieces, or in the wide letters of East Asia."""
    if text.isascii():
        return _NO_LETTER.sub("", text.lower())
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).casefold()))


def cut(text: T, most: int = MOST) -> T:
    """The beginning of a stranger's text. Nothing else of it is used or searched."""
    return text if len(text) <= most else text[:most]


def decoded(text: str) -> Iterator[str]:
    """What the text may mean: each encoding undone, alone and combined with others.

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


def runs(text: str, *, several: bool = False) -> Iterator[tuple[tuple[int, int], tuple[str, ...]]]:
    """Places with Base64 or hexadecimal digits, and all texts that they may mean.

    :param several: those in several pieces, instead of those in one.
    """
    for match in (_SEVERAL if several else _RUN).finditer(text):
        found = match[0].rstrip("=")
        if several:
            found = _BETWEEN.sub("", found.removeprefix("0x").removeprefix("0X"))
        if found.islower() and found.isalpha():
            continue  # a word: the Base64 of a text has capitals or digits
        yield match.span(), _readings(found)


# Several texts about a mail contain its id.
@functools.lru_cache(maxsize=32)
def _readings(run: str, depth: int = _DEPTH) -> tuple[str, ...]:
    found = []
    # A text before a secret shifts its Base64 by one, two or three letters.
    for decode, start in ((_base64, 0), (_base64, 1), (_base64, 2), (_base64, 3), (_hexadecimal, 0), (_hexadecimal, 1)):
        try:
            octets = decode(run[start:])
        except ValueError:
            continue
        # UTF-16 contains NULs for the characters of a secret.
        charsets = ("utf-16-be", "utf-16-le", "utf-8") if b"\0" in octets else ("utf-8",)
        found += [octets.decode(charset, "replace") for charset in charsets if octets]
    if depth and len(run) <= _NESTED:
        for plain in [plain for plain in found if plain.isascii() and plain.isprintable()]:
            for deeper in (plain, *decoded(plain)):
                found += [deeper, *(one for match in _RUN.finditer(deeper) for one in _readings(match[0], depth - 1))]
    return tuple(one for one in dict.fromkeys(found) if _LEGIBLE.search(one))


def _base64(text: str) -> bytes:
    text = text.rstrip("=")
    text = text[: len(text) - (len(text) % 4 == 1)]
    return binascii.a2b_base64(text.translate(_STANDARD) + "=" * (-len(text) % 4))


def _hexadecimal(text: str) -> bytes:
    found = _HEXADECIMAL.match(text)
    return bytes.fromhex(found[0]) if found else b""


def _unescaped(text: str) -> str:
    def letter(match: re.Match[str]) -> str:
        digits = match[1] or match[2] or match[3] or match[4]
        return chr(min(int(digits, 16), sys.maxunicode)) if digits else match[5]

    text = _OCTAL.sub(
        lambda match: bytes(int(one, 8) for one in match[0][1:].split("\\")).decode("utf-8", "replace"), text
    )
    return _ESCAPE.sub(letter, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unprinted(text: str) -> str:
    return _QUOTED_PRINTABLE.sub(
        lambda match: bytes.fromhex(match[0].replace("=", "")).decode("utf-8", "replace"), _SOFT_BREAK.sub("", text)
    )


def _unquoted(text: str) -> str:
    return unquote(_named(_UNICODE_URL, text) if "%u" in text else text)


def _code_points(text: str) -> str:
    return _named(_CODE_POINT, text)


def _named(pattern: re.Pattern[str], text: str) -> str:
    """The text with letters instead of their numbers."""
    plain = pattern.sub(lambda match: chr(min(int(match[1], 16), sys.maxunicode)), text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


#: What each encoding contains, and the function that undoes it.
_DECODERS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("%", _unquoted), ("&", html.unescape), ("\\", _unescaped), ("=", _unprinted),
    ("U+", _code_points),
)  # fmt: skip
