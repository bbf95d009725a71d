"""The newest instances of all states in one list."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pijobs.jobs import READING_ORDER, State
from pijobs.observe.facts import STATE_ORDER
from pijobs.observe.instances import add_afterwards, instance
from pijobs.observe.selection import place_in_time
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record

#: The separator of a cursor; a finished state; a state that was not begun.
_BETWEEN, _NO_MORE, _FROM_THE_BEGIN = "~", "-", ""


@dataclass
class _Line:
    """The instances of one state in one place, from where the last list ended. :ivar taken: how many of them."""

    place: Storage
    state: State
    cursor: str | None
    filters: dict[str, str | None]
    over: bool = False
    taken: int = 0
    next: str | None = None

    def read(self, limit: int, since: int | None) -> Iterator[tuple[int, int, _Line, Record]]:
        page = self.place.page(self.state, cursor=self.cursor, limit=limit, **self.filters)
        self.next, self.over = page.cursor, not page.records
        for number, record in enumerate(page.records, 1):
            if since is not None and place_in_time(record) < since:
                self.next = None
                return
            yield -place_in_time(record), number, self, record

    def told(self, read: int) -> str:
        """The cursor for the next list. :param read: how many were read."""
        if self.over or (self.taken == read and self.next is None):
            return _NO_MORE
        if self.taken == 0:
            return self.cursor or _FROM_THE_BEGIN
        if self.taken < read:
            self.next = self.place.page(self.state, cursor=self.cursor, limit=self.taken, **self.filters).cursor
        return self.next or _NO_MORE


def newest(
    queue: Queue,
    *,
    limit: int,
    cursor: str | None = None,
    since: int | None = None,
    places: Collection[Storage],
    **filters: str | None,
) -> tuple[list[dict[str, Any]], str | None]:
    """Instances, the newest first: by when they ended, or were enqueued if they have not; and a cursor for the next.

    :param since: ms on the storage's clock. :param filters: ``name`` and ``group``.
    :raises ValueError: for an unknown cursor.
    """
    every = [(place, state) for place in queue.places for state in STATE_ORDER]
    parts = [_FROM_THE_BEGIN] * len(every) if cursor is None else cursor.split(_BETWEEN)
    if len(parts) != len(every):
        raise ValueError(f"expected a cursor of an earlier list, found {cursor!r}; begin without one")
    lines = [
        _Line(place, state, part or None, filters, over=part == _NO_MORE or place not in places)
        for (place, state), part in zip(every, parts, strict=True)
    ]
    # Scheduled ones become queued, and these run: what goes on meanwhile is read twice rather than not at all.
    read = {
        id(line): [] if line.over else list(line.read(limit, since))
        for line in sorted(lines, key=lambda line: READING_ORDER.index(line.state))
    }
    rows = dict[str, dict[str, Any]]()
    now = {place: place.now() for place in places}
    for _time, number, line, record in islice(heapq.merge(*read.values(), key=lambda one: one[0]), limit):
        line.taken = number
        rows.setdefault(record.id, instance(record, now[line.place], spooled=line.place is queue.spool))
    found = list(rows.values())
    add_afterwards(queue, found)
    ends = [line.told(len(read[id(line)])) for line in lines]
    return found, None if set(ends) == {_NO_MORE} else _BETWEEN.join(ends)
