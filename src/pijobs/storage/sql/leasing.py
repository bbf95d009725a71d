"""A step of a worker: ends leases, promotes due instances, takes new leases.

It decides group by group: the outlook has for each group the rank of its first instance, and whether it has room; then
it merges these. So a blocked or full group costs one read, however many instances wait in it. With more than
:data:`FEW` groups, their number matters more than what waits in blocked or full ones: then the outlook reads along the
ranks, skips what may not run, and stops when it has enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any

from pijobs.base.numbers import MAX_PRIORITY, MIN_PRIORITY
from pijobs.errors import InstanceNotFound
from pijobs.storage.sql.arrows import Row
from pijobs.storage.sql.rows import find, save, to_rows
from pijobs.storage.sql.schema import RANK_STEP, Code
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.values import HOUSEKEEPING_BATCH, End, Ended, Lease, Step, whole

PROMOTE_BATCH = 20
#: Up to this number, each group is read.
FEW = 100
#: Instances that an outlook along the ranks reads in addition to those that are wanted: others may take some of them,
#: and some have no room in their group.
MORE = 50
#: Priorities that one step searches for due instances; the highest first.
MOST_LANES = 50


@dataclass(frozen=True, slots=True)
class Head:
    """A group that may run, and the rank of its next instance."""

    group: str
    rank: int
    #: How many may start; None: any number.
    room: int | None

    @property
    def priority(self) -> int:
        return -(self.rank // RANK_STEP)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a step would find."""

    now: int
    #: Whether the session may take leases.
    alive: bool
    #: When the next held or scheduled instance becomes due.
    alarm: int | None
    #: In the order of their ranks.
    heads: list[Head]
    #: When the next blocked group in which something waits may run again.
    unblocked: int | None
    #: Whether the heads are those of all groups.
    whole: bool = True

    @property
    def promotable(self) -> bool:
        return self.alarm is not None and self.alarm <= self.now


def last_rank(floor: int | None) -> int:
    """The last rank with a priority of at least ``floor``."""
    # The remainder of a rank is the time of its enqueue, which is always less than a step.
    return (1 - (MIN_PRIORITY if floor is None else max(floor, MIN_PRIORITY))) * RANK_STEP - 1


def look_out(tx: Tx, session: str, floor: int | None, want: int = 1) -> Outlook:
    found = tx.timed_rows(tx.st.outlook, session=session, last_rank=last_rank(floor), n=FEW + 1)
    if not found:
        return Outlook(tx.now, False, None, [], None)
    _, paused, until, alarm, *_ = found[0]
    alive = until is not None and until > tx.now
    if paused:
        return Outlook(tx.now, alive, alarm, [], None)
    if len(found) > FEW:
        return Outlook(tx.now, alive, alarm, *_along_the_ranks(tx, floor, want), whole=False)
    now, heads, blocks = tx.now, [], []
    for *_, group, limit, blocked_until, group_paused, running, rank in found:
        if rank is None or group_paused:
            continue
        blocked_until = whole(blocked_until)
        if blocked_until is not None and now < blocked_until:
            blocks.append(blocked_until)
        elif head := _head(group, limit, running, rank):
            heads.append(head)
    heads.sort(key=lambda head: head.rank)
    return Outlook(now, alive, alarm, heads, min(blocks, default=None))


def _along_the_ranks(tx: Tx, floor: int | None, want: int) -> tuple[list[Head], int | None]:
    found = tx.rows(tx.st.front, now=tx.now, last_rank=last_rank(floor), n=want + MORE)
    first = {row[0]: row for row in reversed(found)}
    unblocked = tx.rows(tx.st.next_unblocked, now=tx.now)
    heads = [head for row in found if first[row[0]] is row and (head := _head(*row))]
    return heads, unblocked[0][0] if unblocked else None


def _head(group: str, limit: Any, running: int, rank: int) -> Head | None:
    limit = whole(limit)
    room = None if limit is None else limit - running
    return Head(group, rank, room) if room is None or room > 0 else None


def note_progress(tx: Tx, instance_id: str, token: str, line: str) -> bool:
    """See :meth:`pijobs.storage.contract.Storage.note_progress`."""
    try:
        row = find(tx, instance_id, lock=True)
    except InstanceNotFound:
        return False
    if row.state != Code.RUNNING or row.token != token:
        return False
    row.note_progress(line)
    save(tx, [row])
    return True


def step(tx: Tx, session: str, ends: Sequence[End], want: int, floor: int | None) -> Step:
    """See :meth:`pijobs.storage.contract.Storage.step`."""
    lost, superseded = carry_out(tx, ends) if ends else ([], [])
    if want <= 0:
        return Step([], lost, tx.rows(tx.st.next_alarm)[0][0], [*superseded, *tx.parked])
    want = tx.most(want)
    outlook = look_out(tx, session, floor, want)
    if outlook.promotable:
        _promote(tx, tx.most(PROMOTE_BATCH))
        outlook = look_out(tx, session, floor, want)
    leases: list[Lease] = []
    ended: list[Ended] = []
    while outlook.alive and outlook.heads and len(leases) < want:
        taken, expired = _take(tx, session, outlook, want - len(leases), floor)
        leases += taken
        ended += expired
        again = expired or (taken and not outlook.whole)
        if not again or len(ended) >= HOUSEKEEPING_BATCH:
            break
        outlook = look_out(tx, session, floor, want - len(leases))
    return Step(leases, lost, outlook.alarm, [*superseded, *ended, *tx.parked])


def carry_out(tx: Tx, ends: Sequence[End]) -> tuple[list[str], list[Ended]]:
    """Store the ends; returns the ids of those whose lease is no longer held, and what was superseded."""
    tx.know_time()
    # One statement for 1, 2, 4 … ids: the last is repeated.
    count = 1 << (len(ends) - 1).bit_length()
    ids = {f"id{number}": ends[min(number, len(ends) - 1)].id for number in range(count)}
    held = {row.id: row for row in to_rows(tx, tx.rows(tx.st.running_of(count), **ids))}
    lost, changed, arrows = [], [], tx.arrows
    for nth, end in enumerate(ends):
        row = held.get(end.id)
        if row is None or row.token is None or row.token != end.token:
            lost.append(end.id)
            continue
        arrows.carry_out(row, end, nth=nth)
        changed.append(row)
    return lost, save(tx, changed)


def _promote(tx: Tx, most: int) -> None:
    """Up to ``most``, by priority: an urgent instance does not wait behind many that became due before it."""
    rows: list[Row] = []
    lane: int | None = MAX_PRIORITY + 1
    for _ in range(MOST_LANES):
        lane = tx.rows(tx.st.next_lane, lane=lane)[0][0]
        if lane is None or len(rows) >= most:
            break
        rows += to_rows(tx, tx.rows(tx.st.due_in_lane, now=tx.now, lane=lane, n=most - len(rows)))
    if len(rows) < most:
        # Instances that release 0.1.0 scheduled are in no lane.
        seen = {row.seq for row in rows}
        found = to_rows(tx, tx.rows(tx.st.due, now=tx.now, n=most))
        rows += [row for row in found if row.seq not in seen][: most - len(rows)]
    for row in rows:
        tx.arrows.promote(row)
    save(tx, rows)


def _take(tx: Tx, session: str, outlook: Outlook, want: int, floor: int | None) -> tuple[list[Lease], list[Ended]]:
    if not tx.dialect.one_writer and any(head.room is not None for head in outlook.heads[:want]):
        outlook = _lock_limits(tx, session, outlook, want, floor)
    rows = _choose(tx, outlook.heads, want, floor)
    overdue = [row for row in rows if row.overdue(tx.now)]
    ended = [tx.arrows.expire(row) for row in overdue]
    save(tx, overdue)
    return _start(tx, session, [row for row in rows if not row.overdue(tx.now)]), ended


def _lock_limits(tx: Tx, session: str, outlook: Outlook, want: int, floor: int | None) -> Outlook:
    """Count the running instances of groups with a limit again under a lock, because others may be counting, too."""
    locked = {head.group for head in outlook.heads[:want] if head.room is not None}
    for group in sorted(locked):
        tx.rows(tx.st.lock_group, grp=group)
    again = look_out(tx, session, floor, want)
    return replace(again, heads=[head for head in again.heads if head.room is None or head.group in locked])


def _choose(tx: Tx, heads: Sequence[Head], want: int, floor: int | None) -> list[Row]:
    """The first ``want`` rows of all groups, as far as there is room."""
    found: list[tuple[int, int, Row]] = []
    for head in heads:
        if len(found) == want and found[-1][0] < head.rank:
            break
        limit = want if head.room is None else min(want, head.room)
        rows = to_rows(tx, tx.rows(tx.st.take, grp=head.group, last_rank=last_rank(floor), n=limit))
        found += [(row.enqueued - row.priority * RANK_STEP, row.seq, row) for row in rows]
        found = sorted(found, key=lambda one: one[:2])[:want]
    return [row for *_, row in found]


def _start(tx: Tx, session: str, rows: Sequence[Row]) -> list[Lease]:
    if not rows:
        return []
    token, now = token_hex(8), tx.now
    values = {
        "state": int(Code.RUNNING),
        "attend": None,
        "ukey": None,
        "started": now,
        "session": session,
        "token": token,
        "reason": None,
        "error": None,
    }
    tx.many(tx.st.start, [{**values, "b_seq": row.seq} for row in rows])
    return [row.lease(token, now) for row in rows]
