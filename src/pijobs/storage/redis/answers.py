"""Converts the answers of the scripts into the values of the contract."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pijobs.errors import KeyConflict
from pijobs.jobs import State
from pijobs.storage.records import Audit, Depths, Fault, GroupRecord, Loss, Record
from pijobs.storage.sessions import Beat, SessionInfo, SessionRecord
from pijobs.storage.values import Ended, Lease, NewInstance, Pause, Stored, whole

_LEASE_FIELDS = 11
_ENDED_FIELDS = 7
#: In the order of the numbers in an answer about depths.
_STATES = (
    State.QUEUED,
    State.RUNNING,
    State.SCHEDULED,
    State.DONE,
    State.DEAD,
    State.EXPIRED,
    State.CANCELLED,
)


def stored(instance_id: str, told: Any) -> Stored:
    """:param told: 1 for one that is queued now, 2 for one that is scheduled, or a list that tells more.
    :raises KeyConflict:
    """
    if told in (1, 2):
        return Stored(instance_id, State.QUEUED if told == 1 else State.SCHEDULED, fresh=True)
    if told[0] == b"conflict":
        raise KeyConflict(words(told[1]))
    replaced = text(told[3]) if told[0] == b"new" else None
    return Stored(words(told[2]), State(words(told[1])), told[0] == b"new", replaced)


def leases(flat: Sequence[bytes], leased: int) -> list[Lease]:
    return [_lease(flat[n : n + _LEASE_FIELDS], leased) for n in range(0, len(flat), _LEASE_FIELDS)]


def _lease(values: Sequence[bytes], leased: int) -> Lease:
    id, token, name, envelope, body, group, priority, attempts, crashes, held, due = values
    return Lease(
        id=words(id),
        token=words(token),
        name=words(name),
        envelope=envelope,
        body=body,
        group=words(group),
        priority=number(priority) or 0,
        attempts=number(attempts) or 0,
        crashes=number(crashes) or 0,
        held_since=number(held),
        due=number(due) or 0,
        leased=leased,
    )


def instances(rows: Sequence[Sequence[bytes]]) -> list[NewInstance]:
    return [_instance(row) for row in rows]


def _instance(values: Sequence[bytes]) -> NewInstance:
    id, name, envelope, body, group, priority, created, deadline, due, key, subject, limit, keep, label, person = values
    return NewInstance(
        id=words(id),
        name=words(name),
        envelope=envelope,
        body=body,
        group=words(group),
        priority=number(priority) or 0,
        created=number(created) or 0,
        deadline=number(deadline),
        due=number(due),
        key=text(key),
        subject=text(subject),
        limit=number(limit),
        keep=number(keep),
        label=text(label),
        person=text(person),
    )


def ended(flat: Sequence[Any]) -> list[Ended]:
    found = []
    for n in range(0, len(flat), _ENDED_FIELDS):
        id, name, group, state, attempts, crashes, reason = flat[n : n + _ENDED_FIELDS]
        found.append(
            Ended(
                id=words(id),
                name=words(name),
                group=words(group),
                state=state_of(state),
                attempts=number(attempts) or 0,
                crashes=number(crashes) or 0,
                reason=words(reason),
            )
        )
    return found


def beat(now: int, alive: int, told: Sequence[Any], held: Sequence[bytes], before: bytes, epoch: bytes) -> Beat:
    pairs = [(words(id), words(token)) for id, token in zip(held[::2], held[1::2], strict=True)]
    return Beat(bool(alive), ended(told), pairs, now, number(before), number(epoch) or 0)


def audit(cursor: bytes, flat: Sequence[Any], faults: Sequence[bytes], *, repaired: bool) -> Audit:
    pairs = zip(faults[::2], faults[1::2], strict=True)
    return Audit([Fault(words(id), words(what), repaired) for id, what in pairs], ended(flat), cursor == b"end")


def record(values: Sequence[Any]) -> Record:
    (state, name, group, priority, created, deadline, due, attempts, crashes, started, finished) = values[:11]
    reason, error, session, history, envelope, _subject, label, _person, has_body, id = values[11:]
    return Record(
        id=words(id),
        name=words(name),
        state=state_of(state),
        group=words(group),
        priority=number(priority) or 0,
        created=number(created) or 0,
        deadline=number(deadline),
        due=number(due) or 0,
        attempts=number(attempts) or 0,
        crashes=number(crashes) or 0,
        started=number(started),
        ended=number(finished),
        reason=text(reason),
        error=text(error),
        session=text(session),
        history=history_of(history),
        envelope=envelope,
        has_body=bool(has_body),
        label=text(label),
    )


def depths(
    paused: bytes,
    seen: bytes,
    rows: Sequence[Sequence[Any]],
    backlog: int,
    totals: int,
    lost: bytes,
    lost_at: bytes,
    bypasses: Sequence[bytes],
) -> Depths:
    counts = {
        (words(row[0]), state): count for row in rows for state, count in zip(_STATES, row[2:], strict=True) if count
    }
    oldest = {words(row[0]): int(row[1]) for row in rows if row[1]}
    loss = Loss("emptied" if lost == b"emptied" else "restored", number(lost_at) or 0) if lost else None
    bypassed = {words(group): Pause.load(note) for group, note in zip(bypasses[::2], bypasses[1::2], strict=True)}
    return Depths(counts, oldest, pause(paused), number(seen), backlog, totals, loss, bypassed)


def group(values: Sequence[Any]) -> GroupRecord:
    name, running, waiting, limit, blocked, paused, policy, version = values
    return GroupRecord(
        name=words(name),
        running=running,
        waiting=waiting,
        limit=whole(limit),
        blocked_until=whole(blocked),
        pause=pause(paused),
        policy=policy.decode(errors="replace"),
        version=whole(version) or 0,
    )


def pause(note: bytes) -> Pause | None:
    return Pause.load(note) if note else None


def session(values: Sequence[Any]) -> SessionRecord | None:
    """None for one that can't be read; its lease ends like any other."""
    stored, seen, until, running = values
    info = SessionInfo.read(stored)
    return (
        None
        if info is None
        else SessionRecord(
            info=info,
            seen=number(seen) or 0,
            until=number(until) or 0,
            running=tuple(sorted(words(one) for one in running)),
        )
    )


def totals(flat: Sequence[bytes]) -> dict[str, float]:
    return {words(name): float(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}


def words(value: bytes) -> str:
    """A text, whatever is stored: a damaged one must not keep the others from being read."""
    return value.decode(errors="backslashreplace")


def state_of(value: bytes) -> State:
    """A state; for a damaged instance the one in which it will be parked."""
    try:
        return State(words(value))
    except ValueError:
        return State.DEAD


def history_of(value: bytes) -> tuple[str, ...]:
    try:
        return tuple(map(str, json.loads(value))) if value else ()
    except (ValueError, TypeError):
        return ()


def number(value: bytes) -> int | None:
    return whole(value) if value else None


def text(value: bytes) -> str | None:
    return words(value) if value else None
