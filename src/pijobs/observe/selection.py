"""Selects instances by state, job, group, subject, reason and age."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pijobs.jobs import ENDED, READING_ORDER, State
from pijobs.payload.keys import KeyRing
from pijobs.payload.subjects import spelled
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record

_PAGE = 200
_MASKED = re.compile(r"[^\s<>:;,]*\*\*\*[^\s<>:;,]*")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A filter. Instances must match all given fields; None matches any.

    :param subject: in clear; found under each key of this installation.
    :param because: a part of the reason, in whatever case; also as :func:`without_addresses` writes it.
    :param since: seconds; ended no longer ago, or was enqueued no longer ago if it has not ended.
    :param older_than: seconds; the other way round.
    """

    states: tuple[State, ...]
    name: str | None = None
    group: str | None = None
    subject: str | None = None
    because: str | None = None
    since: float | None = None
    older_than: float | None = None

    def find(self, queue: Queue, places: Collection[Storage]) -> Iterator[tuple[Storage, Record]]:
        """Each matching instance with its storage; in one state and place, the newest first.

        :raises StorageUnavailable: when a place does not answer.
        """
        for place in places:
            for state in sorted(self.states, key=READING_ORDER.index):
                for lookup in lookups(queue, self.subject):
                    for record in self._in(place, state, lookup):
                        yield place, record

    def _in(self, place: Storage, state: State, lookup: str | None) -> Iterator[Record]:
        now, cursor = place.now(), None
        while True:
            page = place.page(state, name=self.name, group=self.group, subject=lookup, cursor=cursor, limit=_PAGE)
            for record in page.records:
                if self.is_too_old(record, now):
                    return  # the newest come first
                if self.takes(record, now):
                    yield record
            cursor = page.cursor
            if cursor is None:
                return

    def is_too_old(self, record: Record, now: int) -> bool:
        """Whether it, and all later ones, are older than the requested time. ``now`` is in ms."""
        return self.since is not None and now - place_in_time(record) > self.since * 1000

    def takes(self, record: Record, now: int) -> bool:
        """Whether age and reason match; the storage checks the rest."""
        young = self.older_than is not None and now - place_in_time(record) < self.older_than * 1000
        return not young and (self.because is None or self._is_because(record.reason or ""))

    def _is_because(self, reason: str) -> bool:
        wanted = (self.because or "").lower()
        return wanted in reason.lower() or wanted in without_addresses(reason).lower()


def without_addresses(reason: str) -> str:
    """A reason without recipients, so that it is equal for all of them."""
    return _MASKED.sub("…", reason)


def place_in_time(record: Record) -> int:
    """When it ended, or was created if it has not; ms."""
    return (record.ended or 0) if record.state in ENDED else record.created


def lookups(queue: Queue, subject: str | None) -> list[str | None]:
    """The HMACs under which the subject may be stored, one for each key. Releases before 0.2.0 stored numbers as they
    were."""
    if subject is None:
        return [None]
    written = subject.encode(errors="replace").decode()
    keys, spellings = KeyRing.of(queue.settings), dict.fromkeys((spelled(subject), written, written.lower()))
    return [lookup for text in spellings for lookup in keys.lookups("subject", text)]
