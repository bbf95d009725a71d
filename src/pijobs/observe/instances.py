"""Job instances for people: lists of them, and the life of a single one. Times as in :mod:`pijobs.observe.status`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pijobs.base.redact import redact
from pijobs.errors import PijobsError, StateConflict
from pijobs.jobs import ENDED, WAITING, State
from pijobs.observe.facts import STATE_ORDER, age, group, moment, pause_of, session
from pijobs.observe.selection import Selection, lookups, place_in_time
from pijobs.observe.sentences import told_pause, trouble
from pijobs.payload.codec import open_envelope
from pijobs.plugins.loading import call_hook
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record

_TOO_OLD = "it was older than PI_JOB_QUEUE_MAX_AGE allows"
#: Pages of the storage that are read for one list. With several filters they may hold few records or none.
MOST_PAGES = 50


# -- lists -----------------------------------------------------------------------------------------------------------


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

    There may be fewer than ``limit`` while the cursor goes on; without a cursor these were the last.

    :param subject: in clear; found under each key of this installation.
    :param since: ms on the storage's clock; only what ended since then, or was enqueued then if it has not ended.
    :param only: of these those whose age and reason it takes.
    :param places: where to look (:meth:`pijobs.request.places.Places.within_reach`); None: everywhere, or not at all.
    :param filters: ``name`` and ``group``.
    :raises ValueError: for a cursor that is none of ours.
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
        fresh = [
            record
            for record in page.records
            if (since is None or place_in_time(record) >= since) and not (only and only.is_too_old(record, now))
        ]
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


def add_afterwards(queue: Queue, rows: list[dict[str, Any]]) -> None:
    """What plugins were told of those that have ended."""
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


def _place(cursor: str | None, most: int) -> tuple[int, str | None]:
    """The link of the chain, and the storage's cursor there."""
    if not cursor:
        return 0, None
    index, _, inner = cursor.partition(".")
    if not re.fullmatch(r"[0-9]{1,3}", index) or int(index) >= most:
        raise ValueError(f"expected a cursor of an earlier list, found {cursor!r}; begin without one")
    return int(index), inner or None


# -- one -------------------------------------------------------------------------------------------------------------


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
    """How far it is, as its job tells: ``done``, ``total`` (or None), ``text``, ``at``."""
    last = json.loads(record.history[-1]) if record.history and record.state is State.RUNNING else {}
    if last.get("event") != "progress":
        return None
    return {"at": moment(last.get("at")), **{name: last.get(name) for name in ("done", "total", "text")}}


def told_progress(event: Mapping[str, Any]) -> str:
    """An event of progress in words."""
    done, total = (event.get(name) for name in ("done", "total"))
    return f"{done} done" if total is None else f"{done} of {total}"


def _grew_too_old(record: Record, deadline: int | None) -> bool:
    last = json.loads(record.history[-1]) if record.history else {}
    return record.state is State.EXPIRED and deadline is None and last.get("outcome") != State.EXPIRED.value


def _deadline(record: Record) -> int | None:
    """The one that the caller or the job wants; what the storage keeps may be no more than the bound of its age."""
    try:
        return open_envelope(record.envelope).deadline
    except PijobsError:
        return record.deadline


def _event(entry: dict[str, Any]) -> dict[str, Any]:
    times = {name: moment(entry[name]) for name in ("at", "started") if isinstance(entry.get(name), int)}
    took = {"took": age(entry["started"], entry["at"])} if len(times) == 2 else {}
    return {**entry, **times, **took}


def explained(queue: Queue, instance_id: str, *, advice: bool = True) -> dict[str, Any]:
    """One instance with its masked label, and each reason for which it does not run.

    :param advice: with the commands that help.
    :raises InstanceNotFound: for an id that is not there (any more).
    """
    storage, record = queue.places.find(instance_id)
    row = instance(record, storage.now(), spooled=storage is queue.spool)
    add_afterwards(queue, [row])
    return {**row, "label": record.label or _label(queue, storage, record), "waits": [*_waits(storage, record, advice)]}


def _label(queue: Queue, storage: Storage, record: Record) -> str | None:
    """What a release before 0.2.0 stored has its label in the body alone: only who has the key can read it, and only as
    long as the body is there."""
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
        ends = "; 'pijobs resume' ends that" if advice else ""
        yield f"the queue is paused {told_pause(pause_of(depths.pause, now))}{ends}"
    if found is not None:
        row = group(found, now)
        if row["paused"] or row["failures"] or row["blocked_for"]:
            yield f"group {row['name']}: {trouble(row, advice=advice)}"
        elif row["limit"] is not None and row["running"] >= row["limit"]:
            yield f"group {row['name']} is at its limit: {row['running']} of {row['limit']} run"
    live = [session(one, now) for one in storage.sessions()]
    if live:
        yield from _of_workers(record, live)
    else:
        seen = depths.worker_seen
        last = "none was ever seen" if seen is None else f"the last one was seen {age(seen, now):.0f} s ago"
        yield f"there is no live worker, {last}" + ("; start one with 'pijobs worker'" if advice else "")


def _of_workers(record: Record, live: list[dict[str, Any]]) -> Iterator[str]:
    try:
        key = open_envelope(record.envelope).key_id
    except PijobsError as error:
        yield str(error)
        return
    if not any(key in row["keys"] for row in live):
        theirs = ", ".join(sorted({one for row in live for one in row["keys"]}))
        yield (
            f"no live worker has the key {key} that it is encrypted by, they have {theirs}; "
            "give server and workers the same SECRET_KEY or PI_JOB_QUEUE_KEYS"
        )
    if not any(record.name in row["jobs"] for row in live):
        yield f"no live worker knows the job {record.name}; install its plugin there ('pijobs plugins')"
    busy, workers = sum(len(row["running"]) for row in live), sum(row["workers"] for row in live)
    if record.state is State.QUEUED and busy >= workers:
        yield f"all {workers} workers are busy"


# -- in words --------------------------------------------------------------------------------------------------------


def life(row: Mapping[str, Any]) -> Iterator[str]:
    """The life of one instance (of :func:`explained`) for people: what happened, and what happens next."""
    where = ", in the spool of this machine" if row["place"] == "spool" else ""
    yield f"{row['name']} {row['id']}: {row['state']}{where}" + (f" ({row['label']})" if row["label"] else "")
    yield f"  enqueued {row['created']}, {row['age']:.0f} s ago; group {row['group']}, priority {row['priority']}"
    if row["deadline"]:
        yield f"  must happen before {row['deadline']}, or not at all"
    elif row["given_up"] and row["state"] not in ENDED:
        yield f"  is given up at {row['given_up']} (PI_JOB_QUEUE_MAX_AGE)"
    for event in row["history"]:
        yield f"  {event['at']} {told_event(event)}"
        yield from (f"      {frame}" for frame in event.get("frames", ()))
    yield f"  {_next(row)}"
    if row["afterwards"]:
        yield f"  afterwards: {row['afterwards']}"
    for why in row["waits"]:
        yield f"    {why}"


_OUTCOMES = {
    "done": "done",
    "scheduled": "failed, another one follows",
    "dead": "failed for good",
    "expired": "too late",
}


def told_event(event: Mapping[str, Any]) -> str:
    """An event of a history in words."""
    why = f": {event['reason']}" if event.get("reason") else ""
    if event.get("event") == "parked":
        return f"it could not be moved out of the spool{why}"
    if event.get("event") == "held":
        return f"a worker could not run it and gave it back{why}"
    if event.get("event") == "progress":
        return told_progress(event) + (f": {event['text']}" if event.get("text") else "")
    if event.get("event") == "damaged":
        return f"it could not be decoded{why}"
    if event.get("event") == "crashed":
        return f"the worker that ran it died (session {event.get('session')})"
    if event.get("event") != "attempt":
        return f"{event.get('event')}{why}"
    notes = "; ".join(f"{key}: {value}" for key, value in event.get("notes", {}).items())
    uncounted = " (not counted)" if event.get("counted") is False else ""
    outcome = _OUTCOMES.get(str(event["outcome"]), event["outcome"])
    return (
        f"attempt {event['attempt']}{uncounted}, begun {event['started']}, took {event['took']:.3f} s: {outcome}{why}"
        + (f" [{notes}]" if notes else "")
    )


def _next(row: Mapping[str, Any]) -> str:
    reason = f": {row['reason']}" if row["reason"] else ""
    ended = f"at {row['ended']}{reason}"
    untried = "; no worker began an attempt before, see 'pijobs workers'" if not row["started"] else ""
    last = f", the last wait because of: {row['reason']}" if row["reason"] else ""
    if row["state"] == "scheduled" and row["history"] and row["history"][-1].get("event") == "held":
        return f"waits for a worker that can run it, the next look in {row['due_in']:.1f} s{reason}"
    return {
        "queued": f"waits for a worker{reason}",
        "running": f"runs since {row['started']} in session {row['session']} ('pijobs workers')",
        "scheduled": f"next attempt at {row['due']}, in {row['due_in']:.1f} s{last}",
        "dead": f"failed for good {ended}; nothing more happens"
        + (f", unless 'pijobs jobs retry {row['id']}' queues it again" if row["can_be_retried"] else ""),
        "expired": f"expired {ended}{untried}; nothing more happens",
        "cancelled": f"cancelled {ended}; nothing more happens",
        "done": f"done at {row['ended']}",
    }[str(row["state"])]


def retry(queue: Queue, instance_id: str) -> None:
    """Queue a dead letter again, wherever it lies.

    :raises StateConflict: as :meth:`Storage.retry` does, and when it was cancelled instead.
    """
    place, _ = queue.places.find(instance_id)
    place.retry(instance_id)
    record = place.get(instance_id)
    if record.state is State.CANCELLED:
        raise StateConflict(f"instance {instance_id} is cancelled: {record.reason}")
