"""Housekeeping in slices: expire, remove, forget.

Finding what must be removed takes long, so it is done without a lock. That is safe: a finished instance never changes
its state, and whether a group is idle is checked again when it is removed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pijobs.storage.housekeeping import Slice
from pijobs.storage.sql.rows import save, to_rows
from pijobs.storage.sql.schema import FINISHED, WAITING, Code
from pijobs.storage.sql.transactions import Tx

#: The most instances, and groups, that one search finds.
LOOK = 2000


class Run(Protocol):
    def __call__(self, work: Callable[[Tx], Any]) -> Any: ...


class Tidying:
    """What one process knows that must be removed.

    :param write: runs a function in a transaction. :param read: runs it without one.
    """

    def __init__(self, write: Run, read: Run) -> None:
        self._write, self._read = write, read
        self._excess: list[int] = []
        self._idle: list[str] = []
        #: The last group that was checked.
        self._after = ""

    def look(self) -> None:
        """Search for what must be removed."""
        self._excess = self._read(excess)
        names, idle = self._read(lambda tx: idle_groups(tx, self._after))
        self._after = max(names) if len(names) == LOOK else ""
        self._idle = idle

    def tidy(self, most: int) -> Slice:
        """One slice: up to so many of each kind."""
        doomed, groups = self._excess[:most], self._idle[:most]
        done: Slice = self._write(lambda tx: _tidy(tx, most, doomed, groups))
        was_full = len(doomed) == most
        del self._excess[:most], self._idle[:most]
        if was_full and not self._excess:
            self._excess = self._read(excess)
        return Slice(bool(done.more or self._excess or self._idle), done.ended)


def excess(tx: Tx) -> list[int]:
    """The oldest finished instances of jobs that have too many; the first :data:`LOOK`."""
    most = tx.retention.finished_max
    found: list[int] = []
    for name, count in tx.rows(tx.st.finished_counts, most=most):
        number = min(count - most, LOOK - len(found))
        if number > 0:
            rows = [row for code in FINISHED for row in tx.rows(tx.st.oldest_finished[code], name=name, n=number)]
            found += [seq for _place, seq in sorted(map(tuple, rows))[:number]]
    return found


def idle_groups(tx: Tx, after: str) -> tuple[list[str], list[str]]:
    """The next :data:`LOOK` groups, and which of them are idle."""
    tx.know_time()
    rows = tx.rows(tx.st.idle_groups, now=tx.now, after=after, n=LOOK)
    return [name for name, _ in rows], [name for name, idle in rows if idle]


def _tidy(tx: Tx, most: int, doomed: list[int], groups: list[str]) -> Slice:
    tx.know_time()
    rows = to_rows(tx, tx.rows(tx.st.attended, now=tx.now, n=most))
    waiting = [row for row in rows if row.state in WAITING]
    letters = [row for row in rows if row.state == Code.DEAD and row.has_body and row.overdue(tx.now)]
    ended = [tx.arrows.expire(row) for row in waiting]
    for row in letters:
        row.set_body(None)
        row.attend = tx.arrows.attend(row)
    kept = {row.seq for row in waiting + letters}
    save(tx, waiting)
    tx.many(tx.st.drop_body, [{"b_seq": row.seq, "attend": row.attend, "body": None} for row in letters])
    tx.many(tx.st.delete, [{"b_seq": seq} for seq in doomed + [row.seq for row in rows if row.seq not in kept]])
    for name in groups:
        tx.change(tx.st.remove_group, grp=name, now=tx.now)
    tx.change(tx.st.remove_counters, now=tx.now)
    return Slice(len(rows) == most, [*ended, *tx.parked])
