"""An entry of the audit log, and how it is chained to the one before.

What is chained holds keyed hashes in place of what belongs to a person (name, address, reason); the words themselves
stand beside it. Erasing the words leaves the chain as it was, and with the words there it tells whether they are true.

``digest`` is the SHA-256 of the digest before and of the body; ``seal`` is a keyed hash of the digest, which nobody
makes without the keys of the installation. A seal covers all entries before its own: those whose key was retired, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pijobs.payload.keys import Key

#: What a chain begins with.
NOTHING = "0" * 64
LONGEST = 400  # characters of a text
MOST_FIELDS = 500
_PERSON, _WORD, _SEAL = "audit person", "audit word", "audit seal"


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened.

    :ivar act: such as ``"sign-in"`` or ``"job.retry"``.
    :ivar outcome: ``"done"``, ``"refused"`` or ``"failed"``.
    :ivar who: the account, with its realm; for a command the user and the host.
    :ivar on: on what, such as ``"group smtp:main"``; never a person.
    :ivar about: the person whom it concerns, such as the account that was removed.
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
        """For the log. What a stranger typed comes last, and quoted: it can't pass for another line or address."""
        where = f" from {self.address}" if self.address else ""
        by = f" by {self.role}" if self.role else ""
        more = {"who": self.who, "on": self.on, "about": self.about, "reason": self.reason}
        told = " ".join(f"{name}={value!r}" for name, value in more.items() if value)
        return f"{self.act} {self.outcome}{where}{by}: {told}"


@dataclass(frozen=True, slots=True)
class Link:
    """An entry as it is stored. :ivar plain: the words that belong to a person; None: erased."""

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
    def told(self) -> dict[str, Any]:
        """The body."""
        told: dict[str, Any] = json.loads(self.body)
        return told

    @property
    def words(self) -> dict[str, str]:
        """What may be erased: ``who``, ``about``, ``address``, ``reason``."""
        words: dict[str, str] = json.loads(self.plain) if self.plain else {}
        return words

    def shown(self) -> dict[str, Any]:
        """For people: what was erased is told as such."""
        told, words = self.told, self.words
        erased = {name: "(erased)" for name in ("who", "about", "address", "reason") if told[name]}
        return {**told, **(dict.fromkeys(words, "") | words if self.plain is not None else erased)}


def person_hash(key: Key, name: str) -> str:
    """By which the entries of a person are found."""
    return key.lookup(_PERSON, _plain(name)) if name else ""


def link(entry: Entry, key: Key, *, seq: int, at: int, before: str) -> Link:
    """Chain an entry to the digest ``before`` it. :param at: ms since the epoch."""
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
    """What stands in the chain for the words of a person."""
    persons = {name: person_hash(key, words[name]) for name in ("who", "about")}
    return persons | {name: key.lookup(_WORD, words[name]) if words[name] else "" for name in ("address", "reason")}


def chained(before: str, body: str) -> str:
    """The digest of a body behind another digest."""
    return hashlib.sha256(f"{before}\0{body}".encode("utf-8", "surrogatepass")).hexdigest()


def sealed(key: Key, one: Link) -> bool:
    """Whether the key made the seal."""
    return key.lookup(_SEAL, one.digest) == one.seal


def _plain(text: str) -> str:
    # JSON can carry half of a surrogate pair, and PostgreSQL takes no NUL.
    return text[:LONGEST].encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
