"""The audit: rows that can't be read, and rows that no step and no housekeeping would ever find."""

from __future__ import annotations

from typing import Any

from pijobs.errors import InstanceNotFound
from pijobs.storage.sql.arrows import Row
from pijobs.storage.sql.connection import Row as Values
from pijobs.storage.sql.rows import find, restore, save
from pijobs.storage.sql.schema import ENDED, RANK_STEP, WAITING, Code
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.values import Ended

#: Rows that one part reads.
PART = 200


def look(tx: Tx, after: int) -> tuple[int, list[tuple[str, str]]]:
    """Read the next :data:`PART` rows.

    :return: the last of them (0: there are no more), and for each fault an id and words.
    """
    found = tx.rows(tx.st.audited, after=after, n=PART)
    faults = [(str(values[1]), what) for values in found if (what := _fault(values))]
    return (found[-1][0] if len(found) == PART else 0), faults


def _fault(values: Values) -> str | None:
    row, (_lane, rank, has_group) = Row(*values[:-3]), values[-3:]
    if field := row.damage():
        return f"damaged: {field}"
    state = Code(row.state).state
    if row.state in (Code.SCHEDULED, Code.HELD) and row.alarm is None:
        return f"it is {state}, but nothing leads to it"
    if row.state == Code.QUEUED and not has_group:
        return f"it is {state}, but its group is not known"
    if row.state in WAITING and rank != row.enqueued - row.priority * RANK_STEP:
        return "its rank is not that of its priority"
    if row.state in WAITING and row.attend != row.deadline:
        return "nobody watches its deadline"
    if row.state in ENDED and row.attend is None:
        return "it has ended, but is never removed"
    return "another instance has its key" if row.wants_its_key else None


def mend(tx: Tx, ids: list[str]) -> list[Ended]:
    """Repair what :func:`look` found. Unreadable rows are parked; others are put in their place again."""
    tx.know_time()
    ended: list[Ended] = []
    for instance_id in sorted(ids):
        try:
            row = find(tx, instance_id, lock=True)
        except InstanceNotFound:
            continue
        if row.state in (Code.SCHEDULED, Code.HELD):
            row.alarm = row.due
        row.attend = tx.arrows.attend(row)
        _know_group(tx, row)
        restore(tx, row)
        ended += save(tx, [row])
    return [*ended, *tx.parked]


def _know_group(tx: Tx, row: Row) -> None:
    values: dict[str, Any] = {"lim": row.lim, "blocked_until": None, "policy": "", "version": 0, "keep_until": None}
    if row.state in WAITING and not tx.rows(tx.st.group, grp=row.grp):
        tx.insert(tx.st.insert_group, queue=tx.queue, name=row.grp, paused=0, **values)
