"""Keeps addresses, one-time passwords and job arguments out of whatever people read.

Nothing here knows what a secret looks like; it masks what an authentication server handles: mail addresses, runs of
digits long enough to be an OTP or a phone number, passwords in URLs, and every text that is an argument of the job.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from email.message import Message
from functools import cached_property
from itertools import zip_longest

from pijobs.base.foreign import MOST, cut, decoded, runs, squeezed

MAX_LENGTH = 400  # characters; an error is a line, not a page
_LOCAL = r"\w.!#$%&'*+/=?^`{|}~-"
# RFC 5321, 4.1.2: the local part may be quoted, the domain an address literal. A match begins where a local part
# begins, and no two repeats share a letter, so that a long text without an address costs one pass.
_ADDRESS = re.compile(rf"""((?<![{_LOCAL}])[{_LOCAL}]+|"[^"@]*")@((?:[\w-]+\.)*[\w-]+|\[[^\]\s\[@]{{1,255}}\])""")
# Not the digits of a date (2026-11-23), of a number with a point, or of a time.
_DIGITS = re.compile(r"(?<!\w)(?<!\d[.:])(?!\d{4}-\d\d-\d\d(?!\d))\+?\d(?:[ -]?\d){5,}(?!\w|[.:]\d)")
_URL_LOGIN = re.compile(r"(?<=://)[^/\s:]*:[^/\s]*@")
# The id of a periodic instance: the name of its job, and its due time (ms). No address: its "domain" is a number.
_PERIODIC_ID = re.compile(r"(?<![\w.@-])[a-z0-9_]+(?:\.[a-z0-9_]+)+@\d{13}(?![\w.@-])")
# In the line that a web server writes about a request.
_PARAMETER = re.compile(r"(?<=password=)[^&\s\"']+")
# What libraries quote: SQLAlchemy the statement and its parameters, redis-py the command of a pipeline.
_STATEMENT = re.compile(r"\[(?:SQL|parameters): ")
_COMMAND, _PIPELINE = re.compile(r"\bCommand # (\d{1,9}) \("), ") of pipeline"
_WORD = re.compile(r"\w+")
# Tried at the beginning of a word only, so that a long one costs one pass.
_WITH_DIGIT = re.compile(r"\b\w*\d\w*")
_LAYERS = 3  # of encodings, with a secret behind each
_SHORTEST = 4  # characters; shorter arguments ("a", "25") would mask half of every sentence
_FEW = 2000  # characters of all known texts of a call
_GAP = 6  # signs between two letters of a secret that is written in pieces: "12 34 56", "1, 2, 3"


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
    """A URL, or a text with one, without those values behind its "?" that may be a password, if in a wrong place."""

    def shown(match: re.Match[str]) -> str:
        plain = _PLAIN_VALUE.fullmatch(match[3]) and not _SECRET_NAME.search(match[2])
        return match[0] if plain else f"{match[1]}{match[2]}=********"

    return _VALUE.sub(shown, url)


class Known:
    """Texts that nobody may read, prepared for many calls of :func:`redact`.

    Each text is filed under a few letters of it, so that a line is compared with the few texts that it may contain and
    not with all of them: a job may have thousands.

    :param texts: such as arguments of a job. One with a digit in it is masked wherever it stands, another one as whole
        words: an argument "mail" must not mask half of "mailbox".
    :param credentials: are masked wherever they stand.
    :param parts_of: what all texts are parts of, as :func:`values_in` tells it of :func:`texts_in`. Then they are not
        worked out before a line comes by that has a few letters of those.
    """

    def __init__(
        self, texts: Iterable[str], credentials: Iterable[str] = (), *, parts_of: Collection[str] | None = None
    ) -> None:
        self._given = texts
        self._credentials = {text for text in credentials if text}
        wholes = self._texts if parts_of is None else parts_of
        self._size = _SHORTEST if wholes is parts_of else min([_SHORTEST, *map(len, wholes)])
        #: All spellings, if they are so few that it takes less to search them than to file them.
        self._few = "\0".join(form for text in wholes for form in _forms(text))
        if len(self._few) > _FEW:
            self._few = ""
        self._few_squeezed = squeezed(self._few)

    @cached_property
    def _texts(self) -> set[str]:
        return {text for text in self._given if text} | self._credentials

    @cached_property
    def _by_letters(self) -> dict[str, list[tuple[str, bool, str]]]:
        """By some letters of a spelling: spellings, whether they count everywhere, and their masks."""
        filed: dict[str, list[tuple[str, bool, str]]] = {}
        for text in self._texts:
            everywhere, mask = text in self._credentials, _mask_of(text)
            for form in _forms(text):
                filed.setdefault(_letters(form, self._size), []).append((form, everywhere, mask))
        return filed

    @cached_property
    def _by_squeezed(self) -> dict[str, list[tuple[str, bool, str]]]:
        """The same of squeezed spellings, by how they begin."""
        filed: dict[str, list[tuple[str, bool, str]]] = {}
        for text in self._texts:
            everywhere, mask = text in self._credentials, _mask_of(text)
            for form in {squeezed(form) for form in _forms(text)}:
                if len(form) >= _SHORTEST:
                    filed.setdefault(form[:_SHORTEST], []).append((form, everywhere, mask))
        return filed

    def __bool__(self) -> bool:
        return bool(self._few or self._texts)

    def hide(self, text: str) -> str:
        """The text with a mask in place of each known one, in whatever capitals, and with signs between its letters."""
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


_NOTHING_KNOWN = Known(())


def _pattern(form: str, everywhere: bool) -> str:
    """Where a spelling counts."""
    if len(form) < _SHORTEST or not (everywhere or any(map(str.isdigit, form))):
        return rf"(?<!\w){re.escape(form)}(?!\w)"
    # Within a longer number it is another number.
    return (r"(?<!\d)" if form[0].isdigit() else "") + re.escape(form) + (r"(?!\d)" if form[-1].isdigit() else "")


def _places(text: str, form: str, everywhere: bool) -> Iterator[tuple[int, int]]:
    """Where a squeezed spelling counts."""
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
    # Within a longer number it is another number.
    return not ((found[0].isdigit() and before.isdigit()) or (found[-1].isdigit() and after.isdigit()))


def _mask_of(text: str) -> str:
    return mask_address(text) if "@" in text and _ADDRESS.fullmatch(text) else "***"


def _letters(form: str, size: int) -> str:
    """Some letters of a spelling that few others have: the end of its first long word."""
    word = next((word[0] for word in _WORD.finditer(form) if len(word[0]) >= size), form[:size])
    return word[-size:]


def text_of(value: object) -> str:
    """``str(value)``, or the name of its class if its own ``__str__`` fails."""
    try:
        # A subclass of str may have methods that fail, too.
        return str.__str__(str(value))
    except Exception:
        return f"a {class_name(value)}"


def class_name(value: object) -> str:
    """The name of a value's class as people may see it: a name made at run time may hold anything."""
    return redact(type(value).__name__)[:100]


def redact(text: str, known: Iterable[str] | Known = ()) -> str:
    """One line without addresses, long numbers, URL passwords, the ``known`` texts, and what terminals take for
    commands. Of a long text only the beginning is looked at, and told.

    What stands there in an encoded form (of URLs, HTML, JSON, MIME, Base64, hexadecimal) is masked likewise.
    """
    if not isinstance(known, Known):
        known = Known(cut(one) for one in known) if known else _NOTHING_KNOWN
    shortened = len(text) > MOST
    text = _hidden(_without_quotes(cut(text)), known)
    for _ in range(_LAYERS):
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
        # All but a little was masked. At its end may stand a part of a secret, which nobody would recognise.
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
    """Without what holds a known text as Base64 or in hexadecimal; whole words before what stands in several."""
    for several in (False, True):
        found = list(runs(text, several=several))
        together = "\n".join(plain for _, readings in found for plain in readings)
        if known.hide(together) == together:
            continue
        for (start, end), readings in reversed(found):
            if any(known.hide(plain) != plain for plain in readings):
                text = f"{text[:start]}***{text[end:]}"
    return text


def _masked(text: str) -> str:
    if "@" in text:  # most lines have none, and every line of a log comes by here
        text = _ADDRESS.sub(_masked_address, text)
        text = _URL_LOGIN.sub("***@", text)
    return _DIGITS.sub("***", text)


def _masked_address(match: re.Match[str]) -> str:
    if match[1].startswith(('"', "*")):
        return f"***@{match[2]}"
    local = match[1].lstrip("/")  # of a URL: http://user@host
    return f"{match[1].removesuffix(local)}{local[:1]}***@{match[2]}"


def _forms(secret: str) -> set[str]:
    """A text as it may stand in a message: as it is, as forms write its blanks, or as ``repr`` writes it and its UTF-8
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


def describe(error: BaseException, known: Iterable[str] | Known = ()) -> str:
    """An error for people: its class, and its message as far as that may be shown."""
    name, message = class_name(error), message_of(error, known)
    return f"{name}: {message}" if message else name


def message_of(error: BaseException, known: Iterable[str] | Known = ()) -> str:
    """The message of an error as far as it may be shown; empty if its own ``__str__`` fails."""
    try:
        return redact(str.__str__(str(error)), known)
    except Exception:
        return ""
