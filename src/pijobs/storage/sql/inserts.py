"""Stores new instances: at enqueue, once per due time of a periodic job, and when somebody retries one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pijobs.errors import Bypassed, InstanceNotFound, KeyConflict, NoLiveWorker, PijobsError, StateConflict
from pijobs.storage.sql.arrows import Row
from pijobs.storage.sql.dialects.dialect import Trouble
from pijobs.storage.sql.limits import bypasses
from pijobs.storage.sql.rows import find, holder_of, save, to_row
from pijobs.storage.sql.schema import RANK_STEP, WAITING, Code
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.values import (
    LOOKED_AT,
    TAKEN_AHEAD,
    End,
    NewInstance,
    OnConflict,
    Pause,
    Stored,
    is_newer,
    to_bypass,
)

Batch = Sequence[tuple[NewInstance, OnConflict]]


class NotAllNew(PijobsError):
    """some of a batch exist, or some of their keys are taken"""


def enqueue_together(tx: Tx, batch: Batch, worker_within: int | None, bypassable: bool) -> list[Stored]:
    """The usual case of :func:`enqueue_many`, in few round trips.

    :raises NotAllNew: it is not the usual case; roll back what was done.
    """
    if (known := _look(tx, batch, worker_within, bypassable)) is not None:
        return known
    rows = [_values(tx, new, nth=nth) for nth, (new, _) in enumerate(batch)]
    try:
        stored = tx.many(tx.st.insert, rows)
    except Exception as error:
        if tx.dialect.judge(error) is Trouble.DUPLICATE:
            raise NotAllNew from error
        raise
    if stored != len(rows):
        raise NotAllNew
    return [Stored(new.id, _first_code(tx, new).state, fresh=True) for new, _ in batch]


def enqueue_many(tx: Tx, batch: Batch, worker_within: int | None = None, bypassable: bool = False) -> list[Stored]:
    """See :meth:`pijobs.storage.contract.Storage.enqueue_many`."""
    if (known := _look(tx, batch, worker_within, bypassable)) is not None:
        return known
    return [_enqueue(tx, new, on_conflict, nth) for nth, (new, on_conflict) in enumerate(batch)]


def _look(tx: Tx, batch: Batch, worker_within: int | None, bypassable: bool) -> list[Stored] | None:
    """Hold the groups. Without a worker that must be alive: returns those that are already stored, if all are.

    :raises Bypassed: some must run in the request.
    """
    seen, bypass = hold_groups(tx, batch)
    if bypassable and bypass is not None:
        _refuse_bypassed(tx, batch, bypasses(bypass))
    if worker_within is None or (seen is not None and tx.now - seen <= worker_within):
        return None
    known = [stored for new, _ in batch if (stored := _known(tx, new.id))]
    if len(known) < len(batch):
        raise NoLiveWorker
    return known


def _refuse_bypassed(tx: Tx, batch: Batch, groups: Mapping[str, Pause]) -> None:
    found = to_bypass((new for new, _ in batch), groups, tx.now, waits=lambda key: holder_of(tx, key)[0] is not None)
    if new := [one for one in found if _known(tx, one) is None]:
        raise Bypassed(new)


def hold_groups(tx: Tx, batch: Batch) -> tuple[int | None, str | None]:
    """Keep their groups until the end of the transaction; returns when a worker was last seen, and what is bypassed."""
    told: tuple[int | None, str | None] = None, None
    # Always in the same order: otherwise two that hold the same groups would wait for each other.
    for group, limit in sorted({new.group: new.limit for new, _ in batch}.items()):
        told = _hold_group(tx, group, limit)
    return told


def _enqueue(tx: Tx, new: NewInstance, on_conflict: OnConflict, nth: int) -> Stored:
    replaced: str | None = None
    while not _insert(tx, new, nth=nth):
        if known := _known(tx, new.id):
            return known
        waiting, _ = holder_of(tx, new.key)
        if waiting is None:
            # It has started, or expired, at this moment.
            continue
        if on_conflict == "error":
            raise KeyConflict(waiting.id)
        if on_conflict == "keep":
            return Stored(waiting.id, Code(waiting.state).state, fresh=False)
        if is_newer(waiting.created, new.created, tx.now):
            return _superseded(tx, new, waiting.id)
        replaced = waiting.id
        tx.arrows.finish(waiting, Code.CANCELLED, f"superseded by {new.id}")
        save(tx, [waiting])
    return Stored(new.id, _first_code(tx, new).state, fresh=True, replaced=replaced)


def _superseded(tx: Tx, new: NewInstance, newer: str) -> Stored:
    """Stored for the record only: it is older than a call that waits (it comes from a spool)."""
    _insert(tx, new, claims=False)
    row = find(tx, new.id, lock=True)
    tx.arrows.finish(row, Code.CANCELLED, f"superseded by {newer}")
    save(tx, [row])
    return Stored(new.id, Code.CANCELLED.state, fresh=True)


def record_end(tx: Tx, new: NewInstance, end: End) -> bool:
    """See :meth:`pijobs.storage.contract.Storage.record_end`."""
    _hold_group(tx, new.group, new.limit)
    # Only a waiting instance holds the key.
    _insert(tx, new, claims=False)
    row = find(tx, new.id, lock=True)
    if row.state not in WAITING:
        return False
    tx.arrows.carry_out(row, end, nth=0)
    save(tx, [row])
    return True


def enqueue_periodic(tx: Tx, new: NewInstance, due: int) -> bool:
    """See :meth:`pijobs.storage.contract.Storage.enqueue_periodic`."""
    if not tx.insert(tx.st.insert_periodic, queue=tx.queue, name=new.name, due=due):
        tx.know_time()
        wrong = tx.now + TAKEN_AHEAD
        moved = tx.change(tx.st.move_periodic, b_queue=tx.queue, b_name=new.name, b_due=due, b_wrong=wrong, due=due)
        if not moved:
            return False
    enqueue_many(tx, [(new, "replace")])
    return True


def retry(tx: Tx, instance_id: str) -> None:
    """See :meth:`pijobs.storage.contract.Storage.retry`."""
    row = find(tx, instance_id, lock=True)
    tx.know_time()
    if row.state != Code.DEAD:
        raise StateConflict(f"instance {instance_id} is {Code(row.state).state}; only a dead one can be retried")
    if not row.has_body or row.overdue(tx.now):
        raise StateConflict(f"instance {instance_id} is past its deadline; it can't be retried any more")
    _hold_group(tx, row.grp, row.lim)
    tx.arrows.retry(row)
    save(tx, [row], by_hand=True)


def cancel(tx: Tx, instance_id: str, reason: str) -> None:
    """See :meth:`pijobs.storage.contract.Storage.cancel`."""
    row = find(tx, instance_id, lock=True)
    tx.know_time()
    if row.state not in WAITING:
        raise StateConflict(f"instance {instance_id} is {Code(row.state).state}; only a waiting one can be cancelled")
    tx.arrows.finish(row, Code.CANCELLED, reason)
    save(tx, [row])


def make_room(tx: Tx, name: str, priority: int, reason: str) -> str | None:
    """See :meth:`pijobs.storage.contract.Storage.make_room`."""
    found = [
        one for code in WAITING for one in tx.rows(tx.st.newest(code), name=name, n=LOOKED_AT) if one[0] < priority
    ]
    for _, _, instance_id in sorted(found, key=lambda one: (one[0], -one[1])):
        with suppress(StateConflict, InstanceNotFound):  # it was leased, or has gone, meanwhile
            cancel(tx, instance_id, reason)
            return str(instance_id)
    return None


def _hold_group(tx: Tx, group: str, limit: int | None) -> tuple[int | None, str | None]:
    """As :func:`hold_groups`, for one."""
    while not (found := tx.timed_rows(tx.st.look, grp=group)):
        values = {"lim": limit, "blocked_until": None, "paused": 0, "policy": "", "version": 0, "keep_until": None}
        tx.insert(tx.st.insert_group, queue=tx.queue, name=group, **values)
    _, seen, has_no_limit, bypass = found[0]
    if limit is not None and has_no_limit:  # it was paused before its first instance
        tx.change(tx.st.first_limit, b_queue=tx.queue, b_name=group, lim=limit)
    return seen, bypass


def _known(tx: Tx, instance_id: str) -> Stored | None:
    row: Row | None = to_row(tx.rows(tx.st.get, id=instance_id))
    return Stored(row.id, Code(row.state).state, fresh=False) if row else None


def _first_code(tx: Tx, new: NewInstance) -> Code:
    return Code.SCHEDULED if new.due is not None and new.due > tx.now else Code.QUEUED


def _insert(tx: Tx, new: NewInstance, *, claims: bool = True, nth: int = 0) -> bool:
    return tx.insert(tx.st.insert, **_values(tx, new, claims=claims, nth=nth))


def _values(tx: Tx, new: NewInstance, *, claims: bool = True, nth: int = 0) -> dict[str, Any]:
    """:param nth: its number in the transaction, so that the order is kept."""
    code, now_us = _first_code(tx, new), tx.now_us + nth
    due = max(tx.now, new.due or 0)
    return {
        "queue": tx.queue,
        "id": new.id,
        "name": new.name,
        "state": int(code),
        "grp": new.group,
        "priority": new.priority,
        "rank": now_us - new.priority * RANK_STEP,
        "created": new.created,
        "enqueued": now_us,
        "place": now_us,
        "deadline": new.deadline,
        "due": due,
        "alarm": due if code is Code.SCHEDULED else None,
        "lane": new.priority if code is Code.SCHEDULED else None,
        "attend": new.deadline,
        "attempts": 0,
        "crashes": 0,
        "ukey": new.key if claims else None,
        "unique_key": new.key,
        "subject": new.subject,
        "lim": new.limit,
        "keep": new.keep,
        "label": new.label,
        "person": new.person,
        "envelope": new.envelope,
        "body": new.body,
    }


def reseal(tx: Tx, instance_id: str, old: tuple[bytes, bytes], new: tuple[bytes, bytes]) -> bool:
    """See :meth:`pijobs.storage.contract.Storage.reseal`."""
    known = {"b_queue": tx.queue, "b_id": instance_id, "b_envelope": old[0], "b_body": old[1]}
    return tx.change(tx.st.reseal, **known, envelope=new[0], body=new[1]) > 0
