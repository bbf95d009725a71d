"""Texts of one call that must not be shown, in all their spellings."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from email.message import Message
from functools import cached_property

from pijobs.base.foreign import squeezed
from pijobs.base.masks import mask_of

_WORD = re.compile(r"\w+")

# Tried only at the beginning of a word, so that a long one costs one pass.
_WITH_DIGIT = re.compile(r"\b\w*\d\w*")


_SHORTEST = 4  # characters; shorter arguments ("a", "25") would mask half of every sentence

_FEW = 2000  # characters of all known texts of a call

_GAP = 6  # signs between two letters of a secret that is written in pieces: "12 34 56", "1, 2, 3"


class Known:
    """Texts that nobody may read, prepared for many calls of :func:`redact`.

    Each text is indexed by some of its letters, so that a line is compared only with the few texts that it may contain:
    a job may have thousands.

    :param texts: such as arguments of a job. A text with a digit is masked anywhere, another one only as whole words:
        an argument "mail" must not mask half of "mailbox".
    :param credentials: are masked anywhere.
    :param parts_of: the complete values that all texts are parts of: :func:`values_in` for :func:`texts_in`. Then the
        texts are computed only when a line contains some letters of these.
    """

    def __init__(
        self, texts: Iterable[str], credentials: Iterable[str] = (), *, parts_of: Collection[str] | None = None
    ) -> None:
        self._given = texts
        self._credentials = {text for text in credentials if text}
        wholes = self._texts if parts_of is None else parts_of
        self._size = _SHORTEST if wholes is parts_of else min([_SHORTEST, *map(len, wholes)])
        #: All spellings, if searching them takes less time than indexing them.
        self._few = "\0".join(form for text in wholes for form in _forms(text))
        if len(self._few) > _FEW:
            self._few = ""
        self._few_squeezed = squeezed(self._few)

    @cached_property
    def _texts(self) -> set[str]:
        return {text for text in self._given if text} | self._credentials

    @cached_property
    def _by_letters(self) -> dict[str, list[tuple[str, bool, str]]]:
        """By some letters of a spelling: spellings, whether they match anywhere, and their masks."""
        filed: dict[str, list[tuple[str, bool, str]]] = {}
        for text in self._texts:
            everywhere, mask = text in self._credentials, mask_of(text)
            for form in _forms(text):
                filed.setdefault(_letters(form, self._size), []).append((form, everywhere, mask))
        return filed

    @cached_property
    def _by_squeezed(self) -> dict[str, list[tuple[str, bool, str]]]:
        """The same for squeezed spellings, by their beginning."""
        filed: dict[str, list[tuple[str, bool, str]]] = {}
        for text in self._texts:
            everywhere, mask = text in self._credentials, mask_of(text)
            for form in {squeezed(form) for form in _forms(text)}:
                if len(form) >= _SHORTEST:
                    filed.setdefault(form[:_SHORTEST], []).append((form, everywhere, mask))
        return filed

    def __bool__(self) -> bool:
        return bool(self._few or self._texts)

    def hide(self, text: str) -> str:
        """The text with a mask instead of each known one, in any capitals, and with signs between its letters."""
        if not self:
            return text
        return self._hide_squeezed(self._hide_plain(text))

    def _hide_squeezed(self, text: str) -> str:
        letters = squeezed(text)
        pieces = {letters[at : at + _SHORTEST] for at in range(len(letters) - _SHORTEST + 1)}
        if self._few and not any(piece in self._few_squeezed for piece in pieces):
            return text
        found = [
            one for piece in self._by_squeezed.keys() & pieces for one in self._by_squeezed[piece] if one[0] in letters
        ]
        for form, everywhere, mask in sorted(found, key=lambda one: len(one[0]), reverse=True):
            for start, end in reversed([*_places(text, form, everywhere)]):
                text = text[:start] + mask + text[end:]
        return text

    def _hide_plain(self, text: str) -> str:
        size = self._size
        pieces = {text[at : at + size] for at in range(len(text) - size + 1)}
        if self._few and not any(piece in self._few for piece in pieces):
            return text
        letters = self._by_letters.keys() & pieces
        found = [one for key in letters for one in self._by_letters[key] if one[0] in text]
        for form, everywhere, mask in sorted(found, key=lambda one: len(one[0]), reverse=True):
            text = mask.join(re.split(_pattern(form, everywhere), text))
        return text


NOTHING_KNOWN = Known(())


def _pattern(form: str, everywhere: bool) -> str:
    """Where a spelling matches."""
    if len(form) < _SHORTEST or not (everywhere or any(map(str.isdigit, form))):
        return rf"(?<!\w){re.escape(form)}(?!\w)"
    # Inside a longer number it is another number.
    return (r"(?<!\d)" if form[0].isdigit() else "") + re.escape(form) + (r"(?!\d)" if form[-1].isdigit() else "")


def _places(text: str, form: str, everywhere: bool) -> Iterator[tuple[int, int]]:
    """Where a squeezed spelling matches."""
    everywhere = everywhere or any(map(str.isdigit, form))
    letters, at = [], []
    for index, letter in enumerate(text):
        for plain in squeezed(letter):
            letters.append(plain)
            at.append(index)
    together, begin = "".join(letters), 0
    while (begin := together.find(form, begin)) >= 0:
        behind = begin + len(form)
        start, end = at[begin], at[behind - 1] + 1
        near = all(
            right - left <= _GAP + 1 for left, right in zip(at[begin:behind], at[begin + 1 : behind], strict=False)
        )
        if near and _stands_alone(text[start - 1 : start], text[start:end], text[end : end + 1], everywhere):
            yield start, end
            begin = behind
        else:
            begin += 1


def _stands_alone(before: str, found: str, after: str, everywhere: bool) -> bool:
    if not everywhere:
        return not (_WORD.match(before) or _WORD.match(after))
    # Inside a longer number it is another number.
    return not ((found[0].isdigit() and before.isdigit()) or (found[-1].isdigit() and after.isdigit()))


def _letters(form: str, size: int) -> str:
    """Some letters of a spelling that few others have: the end of its first long word."""
    word = next((word[0] for word in _WORD.finditer(form) if len(word[0]) >= size), form[:size])
    return word[-size:]


def _forms(secret: str) -> set[str]:
    """A text as a message may contain it: as it is, with blanks as in forms, or as ``repr`` writes it and its UTF-8
    bytes."""
    if secret.isascii() and secret.isprintable() and not any(letter in secret for letter in "'\"\\"):
        return {secret, secret.replace(" ", "+")}  # repr changes nothing
    return {
        secret, secret.replace(" ", "+"), repr(secret)[1:-1], ascii(secret)[1:-1],
        repr(secret.encode("utf-8", "replace"))[2:-1],
    }  # fmt: skip


def texts_in(value: object) -> Iterator[str]:
    """Every text and number in a job's arguments, each line of it, and its words with a digit in them, such as an OTP
    in a sentence."""
    for text in values_in(value):
        pieces = {text, *(line.strip() for line in text.splitlines()), *_WITH_DIGIT.findall(text)}
        yield from (piece for piece in pieces if len(piece) >= _SHORTEST)


def values_in(value: object) -> Iterator[str]:
    """Every text and number in a job's arguments, as a whole."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int) and not isinstance(value, bool):
        # Longer ones are no OTP, and Python refuses to write some of them.
        if abs(value) < 10**20:
            yield str(value)
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from values_in(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from values_in(item)
    elif isinstance(value, Message):
        with contextlib.suppress(Exception):  # one that can't be written can't be quoted either
            yield value.as_string()
