"""Checks that no entry of the audit log was changed, removed or inserted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pijobs.audit.entries import NOTHING, Link, chained, hashes, sealed
from pijobs.audit.log import ERASE, PRUNE, AuditLog
from pijobs.payload.keys import KeyRing


@dataclass
class Findings:
    """The result. :ivar faults: in words. :ivar entries: number of all. :ivar erased: number without personal texts."""

    faults: list[str] = field(default_factory=list)
    entries: int = 0
    erased: int = 0
    #: Number and digest of the last entry.
    last: tuple[int, str] = (0, NOTHING)


def verify(log: AuditLog, ring: KeyRing, expected: tuple[int, str] | None = None) -> Findings:
    """Check the whole chain.

    A writer with access to the database can remove the newest entries and reset the head. Only a head that was noted
    elsewhere shows that.

    :param expected: number and digest of a head that was noted before.
    """
    found, chain = Findings(), _Chain(ring)
    for one in log.all():
        found.faults += chain.faults_of(one)
        found.entries += 1
        found.erased += one.plain is None
        if expected is not None and one.seq == expected[0] and one.digest != expected[1]:
            found.faults.append(f"entry {one.seq} is another one than was noted")
    found.faults += chain.faults_at_the_end(log.head(), expected)
    found.last = chain.last
    return found


class _Chain:
    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self.last = (0, NOTHING)
        self._first: Link | None = None
        #: The places where the chain may begin, by the entries about removals.
        self._begins: set[tuple[int, str]] = {(0, NOTHING)}
        #: Entries without personal texts, each with hashes of which an erasure must name one.
        self._bare: dict[int, set[str]] = {}
        self._uncovered: str | None = None

    def faults_of(self, one: Link) -> Iterator[str]:
        seq, before = self.last
        if self._first is None:  # faults_at_the_end checks whether the chain may begin here
            self._first = one
        elif one.seq != seq + 1:
            yield f"entry {seq + 1} is missing" + (f", up to {one.seq - 1}" if one.seq > seq + 2 else "")
        elif chained(before, one.body) != one.digest:
            yield f"entry {one.seq} was changed"
        self.last = one.seq, one.digest
        try:
            yield from self._faults_inside(one)
        except (ValueError, KeyError, TypeError):
            yield f"entry {one.seq} can't be read"

    def _faults_inside(self, one: Link) -> Iterator[str]:
        content = one.content
        if (content["seq"], content["at"], content["key"], content["who"], content["about"]) != (
            one.seq, one.at, one.key, one.who, one.about
        ):  # fmt: skip
            yield f"entry {one.seq}: a column was changed"
        if one.plain is None:
            self._bare[one.seq] = {content["who"], content["about"]} - {""}
        if one.key not in self._ring.ids:
            self._uncovered = one.key
            return
        key = self._ring.get(one.key)
        if not sealed(key, one):
            yield f"entry {one.seq} has a seal that is not ours"
            return
        self._uncovered = None
        if one.plain is not None and hashes(key, one.words) != {name: content[name] for name in one.words}:
            yield f"entry {one.seq}: a name, an address or a reason was changed"
        if content["act"] == ERASE:
            self._bare = {seq: who for seq, who in self._bare.items() if not who & set(content["fields"])}
        if content["act"] == PRUNE:
            through, digest = content["fields"]
            self._begins.add((int(through), digest))

    def faults_at_the_end(self, head: tuple[int, str], expected: tuple[int, str] | None) -> Iterator[str]:
        if (first := self._first) is not None and not any(
            seq == first.seq - 1 and chained(digest, first.body) == first.digest for seq, digest in self._begins
        ):
            yield "entry 1 was changed" if first.seq == 1 else f"the entries up to {first.seq - 1} are missing"
        if self.last[0] < head[0] or (expected is not None and self.last[0] < expected[0]):
            yield f"the newest entries are missing, from {self.last[0] + 1} on"
        elif head != self.last:
            yield "the head of the log does not fit its last entry"
        for seq in self._bare:
            yield f"entry {seq} lost its words, and no erasure tells why"
        if self._uncovered is not None:
            yield (
                f"the last entries are sealed by key {self._uncovered}, which is not here; "
                "add it to PI_JOB_QUEUE_KEYS to verify them"
            )
