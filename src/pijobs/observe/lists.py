"""Lists of instances, over the storage and the spool of this machine."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pijobs.jobs import State
from pijobs.observe.facts import STATE_ORDER
from pijobs.observe.instances import add_afterwards, instance
from pijobs.observe.selection import Selection, lookups, place_in_time
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record

#: Pages of the storage that one list reads. With several filters they may contain few records or none.
MOST_PAGES = 50


def listing(
    queue: Queue,
    *,
    state: State | None = None,
    subject: str | None = None,
    cursor: str | None = None,
    limit: int,
    since: int | None = None,
    only: Selection | None = None,
    places: Collection[Storage] | None = None,
    **filters: str | None,
) -> tuple[list[dict[str, Any]], str | None]:
    """Instances, those that run and wait first, the newest of each state first; and a cursor for the next ones. Of each
    state those in the spool of this machine come last.

    There may be fewer than ``limit`` while the cursor goes on; without a cursor these were the last. States are read
    one after the other: an instance that changes its state meanwhile may be missing or come twice.

    :param subject: in clear; found under each key of this installation.
    :param since: ms on the storage's clock; only what ended since then, or was enqueued then if it has not ended.
    :param only: of these those whose age and reason it takes.
    :param places: where to look (:meth:`pijobs.request.places.Places.within_reach`); None: everywhere, or not at all.
    :param filters: ``name`` and ``group``.
    :raises ValueError: for an unknown cursor.
    """
    chain = [
        (one, lookup, place)
        for one in (STATE_ORDER if state is None else (state,))
        for lookup in lookups(queue, subject)
        for place in queue.places
    ]
    index, inner = _place(cursor, len(chain))
    rows: list[dict[str, Any]] = []
    for _ in range(MOST_PAGES):
        if index == len(chain) or len(rows) == limit:
            break
        one, lookup, place = chain[index]
        if places is not None and place not in places:
            index, inner = index + 1, None
            continue
        page = place.page(one, subject=lookup, cursor=inner, limit=limit - len(rows), **filters)
        now = place.now()
        fresh = [record for record in page.records if _is_young_enough(record, now, since, only)]
        rows += [
            instance(record, now, spooled=place is queue.spool)
            for record in fresh
            if only is None or only.takes(record, now)
        ]
        # The newest come first: behind one that is too old, all are.
        inner = page.cursor if len(fresh) == len(page.records) else None
        if inner is None:
            index += 1
    add_afterwards(queue, rows)
    return rows, f"{index}.{inner or ''}" if index < len(chain) else None


def _is_young_enough(record: Record, now: int, since: int | None, only: Selection | None) -> bool:
    return (since is None or place_in_time(record) >= since) and not (only and only.is_too_old(record, now))


def _place(cursor: str | None, most: int) -> tuple[int, str | None]:
    """The link of the chain, and the storage's cursor there."""
    if not cursor:
        return 0, None
    index, _, inner = cursor.partition(".")
    if not re.fullmatch(r"[0-9]{1,3}", index) or int(index) >= most:
        raise ValueError(f"expected a cursor of an earlier list, found {cursor!r}; begin without one")
    return int(index), inner or None
