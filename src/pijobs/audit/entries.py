"""Entries of the audit log, and their chain.

A chained body contains keyed hashes instead of personal texts (name, address, reason); the texts are stored beside it.
Erasing the texts does not change the chain. While they are there, the hashes show whether they were changed.

``digest`` is the SHA-256 of the digest before and of the body. ``seal`` is a keyed hash of the digest, which needs the
keys of the installation. A seal also covers all earlier entries, including those of a retired key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pijobs.payload.keys import Key

#: The digest before the first entry.
NOTHING = "0" * 64
LONGEST = 400  # characters of a text
MOST_FIELDS = 500
_PERSON, _WORD, _SEAL = "audit person", "audit word", "audit seal"


@dataclass(frozen=True, slots=True)
class Entry:
    """One event.

    :ivar act: such as ``"sign-in"`` or ``"job.retry"``.
    :ivar outcome: ``"done"``, ``"refused"`` or ``"failed"``.
    :ivar who: the account, with its realm; for a command, the user and the host.
    :ivar on: the object, such as ``"group smtp:main"``; never a person.
    :ivar about: the affected person, such as the removed account.
    :ivar fields: names of fields that changed, or ids.
    """

    act: str
    outcome: str = "done"
    who: str = ""
    role: str = ""
    address: str = ""
    on: str = ""
    about: str = ""
    fields: tuple[str, ...] = ()
    reason: str = ""

    def line(self) -> str:
        """The line of the log. Texts of strangers come last and quoted, so that they can't imitate other parts."""
        where = f" from {self.address}" if self.address else ""
        by = f" by {self.role}" if self.role else ""
        more = {"who": self.who, "on": self.on, "about": self.about, "reason": self.reason}
        texts = " ".join(f"{name}={value!r}" for name, value in more.items() if value)
        return f"{self.act} {self.outcome}{where}{by}: {texts}"


@dataclass(frozen=True, slots=True)
class Link:
    """A stored entry. Times in ms since the epoch. :ivar plain: the personal texts as JSON; None: erased."""

    seq: int
    at: int
    key: str
    who: str
    about: str
    body: str
    digest: str
    seal: str
    plain: str | None

    @property
    def content(self) -> dict[str, Any]:
        """The decoded body."""
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def words(self) -> dict[str, str]:
        """The personal texts, which can be erased: ``who``, ``about``, ``address``, ``reason``."""
        words: dict[str, str] = json.loads(self.plain) if self.plain else {}
        return words

    def shown(self) -> dict[str, Any]:
        """The entry for people, with ``(erased)`` for erased texts."""
        content, words = self.content, self.words
        erased = {name: "(erased)" for name in ("who", "about", "address", "reason") if content[name]}
        return {**content, **(dict.fromkeys(words, "") | words if self.plain is not None else erased)}


def person_hash(key: Key, name: str) -> str:
    """The hash that finds the entries of a person; "" for no name."""
    return key.lookup(_PERSON, _plain(name)) if name else ""


def link(entry: Entry, key: Key, *, seq: int, at: int, before: str) -> Link:
    """Make the next link of the chain. :param at: ms since the epoch. :param before: the digest of the link before."""
    words = {name: _plain(getattr(entry, name)) for name in ("who", "about", "address", "reason")}
    body = _canonical({
        "seq": seq, "at": at, "key": key.id, "act": entry.act, "outcome": entry.outcome, "role": entry.role,
        "on": _plain(entry.on), "fields": list(entry.fields[:MOST_FIELDS]), **hashes(key, words),
    })  # fmt: skip
    digest = chained(before, body)
    seal = key.lookup(_SEAL, digest)
    who, about = person_hash(key, words["who"]), person_hash(key, words["about"])
    return Link(seq, at, key.id, who, about, body, digest, seal, _canonical(words))


def hashes(key: Key, words: Mapping[str, str]) -> dict[str, str]:
    """The hashes that replace personal texts in the chain."""
    persons = {name: person_hash(key, words[name]) for name in ("who", "about")}
    return persons | {name: key.lookup(_WORD, words[name]) if words[name] else "" for name in ("address", "reason")}


def chained(before: str, body: str) -> str:
    """The digest of a body that follows another digest."""
    return hashlib.sha256(f"{before}\0{body}".encode("utf-8", "surrogatepass")).hexdigest()


def sealed(key: Key, one: Link) -> bool:
    """Whether the key made the seal."""
    return key.lookup(_SEAL, one.digest) == one.seal


def _plain(text: str) -> str:
    # JSON can contain half of a surrogate pair, and PostgreSQL accepts no NUL.
    return text[:LONGEST].encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
