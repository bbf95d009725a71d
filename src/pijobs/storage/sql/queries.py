"""What people see: pages of records, and numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from pijobs.jobs import State
from pijobs.storage.records import Depths, Loss, Page
from pijobs.storage.sql.arrows import CODES, Row
from pijobs.storage.sql.limits import bypasses
from pijobs.storage.sql.schema import CODE_OF, FINISHED, Code, codes_of
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.values import MOST_COUNTED, Pause

_CURSOR = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")
_FAR = 2**63 - 1


def page(
    tx: Tx, state: State, *, name: str | None, group: str | None, subject: str | None, cursor: str | None, limit: int
) -> Page:
    """See :meth:`pijobs.storage.contract.Storage.page`. One filter is searched by its index; the others filter its
    page."""
    place, seq = _parse(cursor)
    known: dict[int, Row] = {}
    for code in codes_of(state):
        for column, value in _rarest(name, group, subject):
            given = {} if column is None else {"value": value}
            rows = tx.rows(tx.st.page(code, column), place=place, seq=seq, n=limit + 1, **given)
            known |= {row.seq: row for row in (Row(*values) for values in rows)}
    found = sorted(known.values(), key=lambda row: (row.place, row.seq), reverse=True)
    shown = found[:limit]
    more = f"{shown[-1].place}-{shown[-1].seq}" if len(found) > limit else None
    return Page([row.record() for row in shown if _fits(row, name, group)], more)


def _rarest(name: str | None, group: str | None, subject: str | None) -> list[tuple[str | None, str | None]]:
    """The filter to search by. A subject must be this one, because the rows do not contain it."""
    if subject is not None:
        return [("subject", subject), ("person", subject)]
    column, value = ("name", name) if group is None else ("grp", group)
    return [(None, None) if value is None else (column, value)]


def _fits(row: Row, name: str | None, group: str | None) -> bool:
    return (name is None or row.name == name) and (group is None or row.grp == group)


def _parse(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return _FAR, _FAR
    match = _CURSOR.fullmatch(cursor)
    if match is None or any(int(part) > _FAR for part in match.groups()):
        raise ValueError(f"expected a cursor of an earlier page, found {cursor!r}; start again without one")
    return int(match[1]), int(match[2])


def depths(tx: Tx) -> Depths:
    """See :meth:`pijobs.storage.contract.Storage.depths`."""
    tx.know_time()
    paused, note, seen, bypass = tx.rows(tx.st.queue)[0]
    counts: dict[tuple[str, State], int] = {}
    oldest: dict[str, int] = {}
    for name, code, number, due in tx.rows(tx.st.counts):
        if code not in CODES:  # damaged; the audit parks it
            continue
        place = name, Code(code).state
        counts[place] = counts.get(place, 0) + number
        if place[1] is State.QUEUED:
            oldest[name] = min(due, oldest.get(name, due))
    finished: Counter[str] = Counter()
    for (name, state), number in counts.items():
        finished[name] += number if CODE_OF[state] in FINISHED else 0
    late = tx.rows(tx.st.backlog, now=tx.now, n=MOST_COUNTED)[0][0]
    backlog = late + sum(max(0, number - tx.retention.finished_max) for number in finished.values())
    losses = [Loss(kind, at) for at, kind in tx.rows(tx.st.losses)]
    loss = max(losses, key=lambda loss: loss.at, default=None)
    pause = Pause.load(note) if paused else None
    return Depths(counts, oldest, pause, seen, backlog, tx.rows(tx.st.number_of_totals)[0][0], loss, bypasses(bypass))


def waiting(tx: Tx, name: str, most: int) -> tuple[int, int | None]:
    """See :meth:`pijobs.storage.contract.Storage.waiting`."""
    number = tx.rows(tx.st.waiting, name=name, most=most)[0][0]
    first = tx.rows(tx.st.first_queued, name=name)
    return int(number), first[0][0] if first else None


def oldest_due(tx: Tx, without: Collection[str]) -> int | None:
    """See :meth:`pijobs.storage.contract.Storage.oldest_due`."""
    return min((due for group, due in tx.rows(tx.st.oldest) if group not in without), default=None)
