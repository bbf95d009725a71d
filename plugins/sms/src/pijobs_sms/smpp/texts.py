"""Encodes texts for telephones: in the GSM alphabet (3GPP TS 23.038, 6.2.1) or UCS-2, split into parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

_GSM = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
# Behind an escape, so two octets each.
_EXTENSION = {
    "\f": 0x0A, "^": 0x14, "{": 0x28, "}": 0x29, "\\": 0x2F, "[": 0x3C, "~": 0x3D, "]": 0x3E, "|": 0x40, "€": 0x65,
}  # fmt: skip
_OCTETS = {letter: bytes([code]) for code, letter in enumerate(_GSM) if letter != "\x1b"} | {
    letter: bytes([0x1B, code]) for letter, code in _EXTENSION.items()
}
MAX_PARTS = 255


@dataclass(frozen=True)
class Alphabet:
    """
    :ivar coding: value of ``data_coding`` (SMPP 3.4, 5.2.19).
    :ivar encode: encodes a letter; raises UnicodeEncodeError or KeyError for an unknown one.
    :ivar whole: most octets of a single text; parts have six fewer or, with seven bits each, seven.
    """

    coding: int
    encode: Callable[[str], bytes]
    whole: int
    part: int


_GSM_7 = Alphabet(0, _OCTETS.__getitem__, 160, 153)
_LATIN_1 = Alphabet(3, lambda letter: letter.encode("latin-1"), 140, 134)
_UCS_2 = Alphabet(8, lambda letter: letter.encode("utf-16-be", "replace"), 140, 134)
#: Values of the gateway's field: the alphabets to try, in order; the first that has all letters is used.
ALPHABETS: Mapping[str, tuple[Alphabet, ...]] = {
    "gsm": (_GSM_7, _UCS_2), "latin1": (_LATIN_1, _UCS_2), "ucs2": (_UCS_2,),
}  # fmt: skip


def parts_of(text: str, alphabet: str, reference: int) -> tuple[int, list[bytes]]:
    """The ``data_coding``, and the text in one or more parts. Splits no letter; telephones join the parts.

    :param alphabet: one of :data:`ALPHABETS`.
    :param reference: 0 to 255, the same for all parts of a text (3GPP TS 23.040, 9.2.3.24.1).
    :raises ValueError: if the text is too long.
    """
    for chosen in ALPHABETS[alphabet]:
        try:
            letters = [chosen.encode(letter) for letter in text]
        except (KeyError, UnicodeEncodeError):
            continue
        break
    if sum(map(len, letters)) <= chosen.whole:
        return chosen.coding, [b"".join(letters)]
    pieces = [b""]
    for letter in letters:
        if len(pieces[-1]) + len(letter) > chosen.part:
            pieces.append(b"")
        pieces[-1] += letter
    if len(pieces) > MAX_PARTS:
        raise ValueError(f"expected a text of at most {MAX_PARTS} parts, found one of {len(pieces)}")
    headers = (bytes([5, 0, 3, reference, len(pieces), number]) for number in range(1, len(pieces) + 1))
    return chosen.coding, [header + piece for header, piece in zip(headers, pieces, strict=True)]
