"""Job instances for people: lists of them, and the life of a single one. Times as in :mod:`pijobs.observe.status`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pijobs.base.redact import redact
from pijobs.base.told import Told
from pijobs.errors import PijobsError, StateConflict
from pijobs.jobs import WAITING, State
from pijobs.observe.facts import age, group, moment, pause_of, session
from pijobs.observe.key_checks import SAME_KEYS
from pijobs.observe.sentences import ENDS_THAT, told_pause, trouble
from pijobs.payload.codec import open_envelope
from pijobs.plugins.loading import call_hook
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record

_TOO_OLD = "it was older than PI_JOB_QUEUE_MAX_AGE allows"


def instance(record: Record, now: int, *, spooled: bool = False) -> dict[str, Any]:
    """One instance: its record and its history, no body.

    :param spooled: whether it lies in the spool of this machine.
    """
    deadline = _deadline(record)
    return {
        "id": record.id,
        "name": record.name,
        "state": record.state.value,
        "place": "spool" if spooled else "storage",
        "group": record.group,
        "priority": record.priority,
        "attempts": record.attempts,
        "crashes": record.crashes,
        "created": moment(record.created),
        "age": age(record.created, now),
        "due": moment(record.due),
        "due_in": age(now, record.due),
        "deadline": moment(deadline),
        "given_up": moment(record.deadline) if deadline is None else None,
        "started": moment(record.started),
        "ended": moment(record.ended),
        "afterwards": None,
        "reason": _TOO_OLD if _grew_too_old(record, deadline) else record.reason,
        "error": record.error,
        "session": record.session,
        "label": record.label,
        "can_be_retried": record.state is State.DEAD and record.has_body,
        "progress": _progress(record),
        "history": [_event(json.loads(line)) for line in record.history],
    }


def _progress(record: Record) -> dict[str, Any] | None:
    """Its progress, as the job reports it: ``done``, ``total`` (or None), ``text``, ``at``."""
    last = json.loads(record.history[-1]) if record.history and record.state is State.RUNNING else {}
    if last.get("event") != "progress":
        return None
    return {"at": moment(last.get("at")), **{name: last.get(name) for name in ("done", "total", "text")}}


def _grew_too_old(record: Record, deadline: int | None) -> bool:
    last = json.loads(record.history[-1]) if record.history else {}
    return record.state is State.EXPIRED and deadline is None and last.get("outcome") != State.EXPIRED.value


def _deadline(record: Record) -> int | None:
    """The deadline of the caller or the job. The storage's deadline may be only the limit of the instance's age."""
    try:
        return open_envelope(record.envelope).deadline
    except PijobsError:
        return record.deadline


def _event(entry: dict[str, Any]) -> dict[str, Any]:
    times = {name: moment(entry[name]) for name in ("at", "started") if isinstance(entry.get(name), int)}
    took = {"took": age(entry["started"], entry["at"])} if len(times) == 2 else {}
    return {**entry, **times, **took}


def explained(queue: Queue, instance_id: str, *, advice: bool = True) -> dict[str, Any]:
    """One instance with its masked label, and all reasons why it does not run.

    :param advice: with the commands that help.
    :raises InstanceNotFound: for an id that is not there (any more).
    """
    storage, record = queue.places.find(instance_id)
    row = instance(record, storage.now(), spooled=storage is queue.spool)
    add_afterwards(queue, [row])
    return {**row, "label": record.label or _label(queue, storage, record), "waits": [*_waits(storage, record, advice)]}


def _label(queue: Queue, storage: Storage, record: Record) -> str | None:
    """Before release 0.2.0 the label was only in the body, so reading it needs the key and the body."""
    try:
        body = storage.body(record.id) if record.has_body else None
        return None if body is None else queue.codec().decode(record.envelope, body).label
    except PijobsError:
        return None


def _waits(storage: Storage, record: Record, advice: bool) -> Iterator[str]:
    if record.state not in WAITING:
        return
    now, depths, found = storage.now(), storage.depths(), storage.group(record.group)
    if depths.pause is not None:
        paused = Told("the queue is paused {how}", how=told_pause(pause_of(depths.pause, now)))
        yield Told.joined("; ", [paused, ENDS_THAT]) if advice else paused
    if found is not None:
        row = group(found, now)
        if row["paused"] or row["failures"] or row["blocked_for"]:
            yield Told("group {name}: {trouble}", name=row["name"], trouble=trouble(row, advice=advice))
        elif row["limit"] is not None and row["running"] >= row["limit"]:
            yield Told(
                "group {name} is at its limit: {running} of {limit} run",
                name=row["name"], running=row["running"], limit=row["limit"],
            )  # fmt: skip
    live = [session(one, now) for one in storage.sessions()]
    if live:
        yield from _of_workers(record, live)
    else:
        yield from _of_no_worker(None if depths.worker_seen is None else age(depths.worker_seen, now), advice)


def _of_no_worker(seen: float | None, advice: bool) -> Iterator[str]:
    last = Told("none was ever seen")
    if seen is not None:
        last = Told("the last one was seen {seen:.0f} s ago", seen=seen)
    told = Told("there is no live worker, {last}", last=last)
    yield Told.joined("; ", [told, Told("start one with 'pijobs worker'")]) if advice else told


def _of_workers(record: Record, live: list[dict[str, Any]]) -> Iterator[str]:
    try:
        key = open_envelope(record.envelope).key_id
    except PijobsError as error:
        yield str(error)
        return
    if not any(key in row["keys"] for row in live):
        theirs = ", ".join(sorted({one for row in live for one in row["keys"]}))
        said = Told(
            "no live worker has the key {key} that it is encrypted with, they have {theirs}", key=key, theirs=theirs
        )
        yield Told.joined("; ", [said, SAME_KEYS])
    if not any(record.name in row["jobs"] for row in live):
        yield Told("no live worker knows the job {name}; install its plugin there ('pijobs plugins')", name=record.name)
    busy, workers = sum(len(row["running"]) for row in live), sum(row["workers"] for row in live)
    if record.state is State.QUEUED and busy >= workers:
        yield Told("all {number} workers are busy", number=workers)


def retry(queue: Queue, instance_id: str) -> None:
    """Queue a dead letter again, whether it is in the storage or the spool.

    :raises StateConflict: as :meth:`Storage.retry` does, and when it was cancelled instead.
    """
    place, _ = queue.places.find(instance_id)
    place.retry(instance_id)
    record = place.get(instance_id)
    if record.state is State.CANCELLED:
        raise StateConflict(f"instance {instance_id} is cancelled: {record.reason}")


def add_afterwards(queue: Queue, rows: list[dict[str, Any]]) -> None:
    """Add what plugins know about ended instances."""
    ended = {row["id"]: row["name"] for row in rows if row["ended"]}
    answers = call_hook(queue.settings, "told_afterwards", settings=queue.settings, instances=ended) if ended else []
    told = {
        one: redact(text)
        for _, answer in answers
        if isinstance(answer, Mapping)
        for one, text in answer.items()
        if isinstance(text, str)
    }
    for row in rows:
        row["afterwards"] = told.get(row["id"])
