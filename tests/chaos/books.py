"""The books of a run: what enqueue promised, what the storage says became of it, and what really happened."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from acceptance.site import Site

from pijobs.jobs import ENDED, State
from pijobs.storage.records import Record

from .jobs_under_chaos import NAME

#: How far a process may be off the storage's clock (seconds): it knows that from answers that may have taken so long.
CLOCK_ERROR = 0.1
#: Longest wait between two attempts of the job (seconds).
RETRY_WAIT = 1.0
#: The default of the setting (seconds).
ENQUEUE_TIMEOUT = 0.25
#: What an enqueue may take on a busy machine with two cores, on top of its time-out (seconds).
GRACE = 4.0


@dataclass(frozen=True)
class Promise:
    """One call that enqueue returned from, by the host's clock (seconds)."""

    expires: float | None
    delay: float | None
    before: float
    after: float

    @property
    def latest(self) -> float:
        return float("inf") if self.expires is None else self.after + self.expires + CLOCK_ERROR

    @property
    def soonest(self) -> float:
        """Before this it must not expire."""
        return 0.0 if self.expires is None else self.before + self.expires - RETRY_WAIT - CLOCK_ERROR

    @property
    def earliest(self) -> float:
        return self.before + (self.delay or 0.0) - CLOCK_ERROR


@dataclass(frozen=True)
class Books:
    """:param longest: seconds that the slowest enqueue took.
    :param effects: when the effects of each instance happened."""

    asked: int
    longest: float
    promises: Mapping[str, Promise]
    refusals: collections.Counter[str]
    records: Mapping[str, Record]
    effects: Mapping[str, list[float]] = field(repr=False)

    @property
    def enqueued(self) -> int:
        """All that is stored: what enqueue returned from, and what was in flight when it was killed or refused."""
        return len(self.records)

    @property
    def unanswered(self) -> set[str]:
        """What is stored, though enqueue did not say so."""
        return set(self.records) - set(self.promises)

    @property
    def lost(self) -> set[str]:
        """What enqueue returned from and is nowhere."""
        return set(self.promises) - set(self.records)

    @property
    def open(self) -> set[str]:
        return {id for id, record in self.records.items() if record.state not in ENDED}

    @property
    def ends(self) -> collections.Counter[State]:
        return collections.Counter(record.state for record in self.records.values())

    @property
    def second_runs(self) -> int:
        """Effects beyond the first of each instance."""
        return sum(len(times) - 1 for times in self.effects.values())

    @property
    def unexplained(self) -> set[str]:
        """What had more effects than it took down workers, plus one."""
        return {id for id, record in self.records.items() if len(self.effects.get(id, ())) > 1 + record.crashes}

    @property
    def without_effect(self) -> set[str]:
        """What is done, and yet nothing happened."""
        return {id for id, record in self.records.items() if record.state is State.DONE and not self.effects.get(id)}

    @property
    def late(self) -> set[str]:
        return {id for id, promise in self.promises.items() if max(self.effects.get(id, [0.0])) > promise.latest}

    @property
    def early(self) -> set[str]:
        never = float("inf")
        return {id for id, promise in self.promises.items() if min(self.effects.get(id, [never])) < promise.earliest}

    @property
    def hasty(self) -> set[str]:
        """What expired long before its deadline. The last wait for a next attempt may reach beyond that."""
        expired = {id for id, record in self.records.items() if record.state is State.EXPIRED and id in self.promises}
        return {id for id in expired if (self.records[id].ended or 0) / 1000 < self.promises[id].soonest}

    def check(self) -> None:
        """What holds whatever was killed, as long as the storage keeps what it acknowledged."""
        assert not self.lost
        self.check_ends()
        assert not self.unexplained

    def check_ends(self) -> None:
        """What holds even for a storage that forgets its last second."""
        assert not self.open
        assert self.enqueued == sum(self.ends[state] for state in ENDED)
        assert len(self.unanswered) <= self.asked - len(self.promises)
        assert self.longest < ENQUEUE_TIMEOUT + GRACE
        assert not self.without_effect
        assert not self.late
        assert not self.early
        assert not self.hasty


def read(site: Site, book: Path) -> Books:
    """The books as they stand."""
    asked, longest, promises, refusals = 0, 0.0, {}, collections.Counter[str]()
    for line in lines(book):
        word, _, rest = line.partition(" ")
        if word == "ask":
            asked += 1
        elif word == "no":
            before, after, reason = rest.split(maxsplit=2)
            refusals[reason] += 1
            longest = max(longest, float(after) - float(before))
        elif word == "ack":
            id, expires, delay, before, after = rest.split()
            promises[id] = Promise(_seconds(expires), _seconds(delay), float(before), float(after))
            longest = max(longest, float(after) - float(before))
    effects = collections.defaultdict(list)
    for line in site.effects_of("run"):
        id, moment = line.split()
        effects[id].append(float(moment))
    return Books(asked, longest, promises, refusals, {record.id: record for record in records(site)}, dict(effects))


def lines(book: Path) -> list[str]:
    return book.read_text().splitlines() if book.exists() else []


def records(site: Site) -> Iterable[Record]:
    for state in State:
        cursor: str | None = None
        while True:
            page = site.storage.page(state, name=NAME, cursor=cursor, limit=500)
            yield from page.records
            cursor = page.cursor
            if cursor is None:
                break


def _seconds(text: str) -> float | None:
    return None if text == "-" else float(text)
