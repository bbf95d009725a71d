"""Groups, pauses, counters and totals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pijobs.storage.periods import Period
from pijobs.storage.records import GroupRecord
from pijobs.storage.sql.connection import Row
from pijobs.storage.sql.schema import Code
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.values import HOUSEKEEPING_BATCH, LEFT_OUT, Pause, whole


def groups(tx: Tx, after: str, limit: int, healthy: str | None) -> list[GroupRecord]:
    """See :meth:`pijobs.storage.contract.Storage.groups`."""
    if healthy is None:
        found = tx.rows(tx.st.groups, after=after, n=limit)
    else:
        found = tx.rows(tx.st.groups_in_trouble, after=after, n=limit, healthy=f"%{healthy}")
    return [_record(row) for row in found]


def group(tx: Tx, name: str) -> GroupRecord | None:
    """See :meth:`pijobs.storage.contract.Storage.group`."""
    found = tx.rows(tx.st.group, grp=name)
    return _record(found[0]) if found else None


def _record(row: Row) -> GroupRecord:
    name, limit, blocked_until, paused, note, policy, version, running, *waiting = row
    pause = Pause.load(note) if paused else None
    return GroupRecord(
        name, running, sum(waiting), whole(limit), whole(blocked_until), pause, str(policy), whole(version) or 0
    )


def set_group(tx: Tx, name: str, version: int, decided: Mapping[str, Any], keep: int) -> bool:
    """See :meth:`pijobs.storage.contract.Storage.set_group`."""
    tx.know_time()
    values = {**decided, "version": version + 1, "keep_until": tx.now + keep}
    if tx.change(tx.st.set_group, b_queue=tx.queue, b_name=name, b_version=version, **values):
        return True
    return version == 0 and tx.insert(tx.st.insert_group, queue=tx.queue, name=name, paused=0, **values)


def pause(tx: Tx, name: str | None, told: Pause | None) -> None:
    """Pause or resume (None) the queue, or a group (which may not be known yet)."""
    set_to = {"paused": int(told is not None), "pause": None if told is None else told.dump()}
    if name is None:
        tx.change(tx.st.pause_queue, b_queue=tx.queue, **set_to)
        return
    if tx.change(tx.st.pause_group, b_queue=tx.queue, b_name=name, **set_to) or told is None:
        return
    values = {"lim": None, "blocked_until": None, "policy": "", "version": 0, "keep_until": None}
    tx.insert(tx.st.insert_group, queue=tx.queue, name=name, paused=0, **values)
    tx.change(tx.st.pause_group, b_queue=tx.queue, b_name=name, **set_to)


def make_due(tx: Tx, group: str) -> int:
    """A part of :meth:`pijobs.storage.contract.Storage.make_due`."""
    tx.know_time()
    found = tx.rows(tx.st.attempted, grp=group, now=tx.now, n=HOUSEKEEPING_BATCH)
    due = {"state": int(Code.SCHEDULED), "due": tx.now, "alarm": tx.now}
    tx.many(tx.st.hold, [{"b_seq": seq, **due, "lane": priority} for seq, priority in found])
    return len(found)


def bypasses(note: str | None) -> dict[str, Pause]:
    """The content of the column ``bypass``."""
    try:
        return {} if note is None else {name: Pause.load(told) for name, told in json.loads(note).items()}
    except (ValueError, AttributeError):
        return {}


def bypass(tx: Tx, name: str, told: Pause | None) -> None:
    """Bypass the queue for a group ("": for all), or end that (None)."""
    kept = {group: one.dump() for group, one in bypasses(tx.rows(tx.st.lock_queue)[0][0]).items() if group != name}
    if told is not None:
        kept[name] = told.dump()
    tx.change(tx.st.bypass_queue, b_queue=tx.queue, bypass=json.dumps(kept) if kept else None)


def count(tx: Tx, key: str, *, limit: int, per: int) -> int | None:
    """See :meth:`pijobs.storage.contract.Storage.count`."""
    tx.know_time()
    # In a loop, because housekeeping may remove the row between the two.
    while not (found := tx.rows(tx.st.counter, b_queue=tx.queue, b_name=key)):
        tx.insert(tx.st.insert_counter, queue=tx.queue, name=key, times="[]", until=tx.now + per)
    # Read again under the lock, because waiting for it may have taken time.
    now = max(tx.now, tx.clock.now_us() // 1000)
    times = [time for time in _times(found[0][0]) if time > now - per]
    if len(times) >= limit:
        return int(times[-limit]) + per
    values = {"times": json.dumps([*times, now]), "until": now + per}
    tx.change(tx.st.set_counter, b_queue=tx.queue, b_name=key, **values)
    return None


def _times(text: str) -> list[int]:
    try:
        return [time for time in json.loads(text) if isinstance(time, int)]
    except (ValueError, TypeError):  # damaged; counted anew
        return []


def owner(tx: Tx, period: Period | None) -> str:
    """The owner of totals: a queue, or one of its periods. No queue has such a name."""
    return tx.queue if period is None else f"{tx.queue}/{period.name}"


def totals(tx: Tx, whose: str) -> dict[str, float]:
    """See :meth:`pijobs.storage.contract.Storage.totals`."""
    return dict(map(tuple, tx.rows(tx.st.totals, queue=whose)))


def add_totals(tx: Tx, added: Mapping[str, float], period: Period | None, most: int) -> None:
    """See :meth:`pijobs.storage.contract.Storage.add_totals`."""
    whose = owner(tx, period)
    number = tx.rows(tx.st.number_of_totals, queue=whose)[0][0]
    if period is not None and not number:
        # The first one in a period removes what is too old.
        first = f"{tx.queue}/{period.step.letter}"
        tx.change(tx.st.forget_totals, first=first, last=owner(tx, period.oldest))
    room = most - number
    taken = dict(added)
    if len(taken) > room:
        known = totals(tx, whose)
        unknown = [name for name in added if name not in known]
        for name in unknown[max(0, room) :]:
            del taken[name]
        if left_out := len(added) - len(taken):
            taken[LEFT_OUT] = left_out
    # Always in the same order: otherwise two that write the same rows would wait for each other.
    tx.many(tx.st.add_total, [{"queue": whose, "name": name, "value": taken[name]} for name in sorted(taken)])
