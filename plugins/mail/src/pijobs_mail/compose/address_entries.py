"""Splits a text with mail addresses into entries (RFC 5322 3.4). Pure.

Refuses nothing: texts that people write have unpaired quotes and brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# Copied text contains marks of direction and characters without width.
_BLANK = r" \t\u00a0\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_TOKEN = re.compile(
    rf"""(?P<blank>[{_BLANK}]+)|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<literal>\[[^\[\]\\]*\])"""
    rf"""|(?P<atom>[^\s{_BLANK}()<>@,;:"\[\]\\]+)|(?P<special>[<>@,;:])"""
)


@dataclass(slots=True)
class Token:
    kind: str
    text: str

    def is_(self, *specials: str) -> bool:
        return self.kind == "special" and self.text in specials

    @property
    def counts(self) -> bool:
        return self.kind not in ("blank", "comment", "stray")


@dataclass(slots=True)
class Entry:
    """The text between two separators: an address, or a name and an address in angle brackets."""

    #: Whether it follows a closing bracket, without a separator.
    is_rest: bool = False
    outside: list[Token] = field(default_factory=list)
    #: The tokens in angle brackets, from the first that counts; None: there are no brackets.
    inside: list[Token] | None = None
    #: Whether only words are outside.
    is_phrase: bool = True
    in_route: bool = False
    is_closed: bool = False

    def add(self, token: Token) -> None:
        if token.is_("<" if self.inside is not None else ">") or (self.inside is None and token.is_(":")):
            token = Token("stray", token.text)
        if self.inside is None and token.is_("<"):
            self.inside = []
        elif self.inside is None:
            self.is_phrase &= token.kind not in ("special", "literal")
            self.outside.append(token)
        elif token.is_(">"):
            self.is_closed = True
        elif token.is_(":"):  # after "mailto", or a route, which RFC 5321 4.1.2 says to ignore
            self.inside, self.in_route = [], False
        elif self.inside or token.counts:
            self.in_route |= token.is_("@") and not self.inside
            self.inside.append(token)


def entries(text: str) -> Iterator[Entry]:
    """All entries that may be an address.

    :param text: one line.
    """
    return _with_their_names(_entries(_tokens(text)))


def _tokens(text: str) -> Iterator[Token]:
    place, last = 0, {'"': len(text), "(": len(text)}
    while place < len(text):
        letter = text[place]
        end = _end_of_comment(text, place) if letter == "(" and place < last["("] else 0
        match = _TOKEN.match(text, place) if letter != '"' or place < last['"'] else None
        if end:
            yield Token("comment", text[place + 1 : end - 1])
            place = end
        elif match:
            yield Token(str(match.lastgroup), match[0])
            place = match.end()
        else:
            last[letter] = place  # unpaired; searching a partner for each one would be slow
            yield Token("stray", letter)
            place += 1


def _end_of_comment(text: str, start: int) -> int:
    """The index after the comment; 0 if it does not end and an address follows."""
    depth, place = 0, start
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == "(":
            depth += 1
        elif text[place] == ")":
            depth -= 1
            if not depth:
                return place + 1
        place += 1
    return 0 if "@" in text[start:] else len(text) + 1


def _entries(tokens: Iterator[Token]) -> Iterator[Entry]:
    """Split at separators. Drops the names of groups and keeps their members (RFC 5322 3.4).

    A closing bracket also ends an entry. Text after it that is no address is dropped later.
    """
    entry = Entry()
    for token in tokens:
        if token.is_(",", ";") and not entry.in_route:
            yield entry
            entry = Entry()
        elif token.is_(":") and entry.is_phrase and entry.inside is None:
            entry = Entry()
        else:
            entry.add(token)
        if entry.is_closed:
            yield entry
            entry = Entry(is_rest=True)
    yield entry


def _with_their_names(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Join names that contain a comma; drop what is no entry."""
    waiting: list[Entry] = []
    for entry in entries:
        counts = any(token.counts for token in entry.outside)
        if entry.inside or (entry.inside is not None and (counts or waiting)):
            name = [token for part in waiting for token in (*part.outside, Token("special", ","))]
            entry.outside = name + entry.outside
            yield entry
            waiting = []
        elif not counts or (entry.is_rest and entry.is_phrase):
            continue
        elif entry.is_phrase:
            waiting.append(entry)
        else:
            yield from waiting
            waiting = []
            yield entry
    yield from waiting
