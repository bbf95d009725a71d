"""One answer to "what is going on?", for commands, routes, readiness, metrics and pages.

Everything here is made of plain values that JSON knows, without bodies; times are ISO 8601 in UTC, ages are seconds on
the storage's clock.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pijobs.errors import StorageUnavailable
from pijobs.groups import Policy
from pijobs.hookspecs import CheckResult
from pijobs.jobs import State
from pijobs.keys import KeyRing
from pijobs.queue import WORKER_ABSENT, Queue
from pijobs.storage.contract import GroupRecord, Record, SessionRecord, Storage

#: In which order people want to see them: what lives first, then what went wrong.
STATE_ORDER = (
    State.RUNNING, State.QUEUED, State.SCHEDULED, State.DEAD, State.EXPIRED, State.CANCELLED, State.DONE,
)  # fmt: skip


def overview(queue: Queue) -> dict[str, Any]:
    """Depth and age per job and state, workers, and the outage if there is one."""
    rows: dict[str, Any] = {"queue": queue.option("NAME"), "mode": queue.mode, "storage": None, "reachable": True}
    storage = queue.storage
    if storage is None:
        return rows
    rows["storage"] = storage.display_url
    try:
        depths, sessions, now = storage.depths(), storage.sessions(), storage.now()
    except StorageUnavailable as error:
        return {**rows, "reachable": False, "reason": str(error)}
    jobs: dict[str, Any] = {}
    for (name, state), number in depths.counts.items():
        if number:
            jobs.setdefault(name, {})[state.value] = number
    for name, due in depths.oldest_due.items():
        jobs.setdefault(name, {})["oldest_age"] = age(due, now)
    return {
        **rows,
        "paused": depths.paused,
        "jobs": dict(sorted(jobs.items())),
        "states": {state.value: sum(job.get(state.value, 0) for job in jobs.values()) for state in STATE_ORDER},
        "oldest_age": max((job.get("oldest_age") or 0.0 for job in jobs.values()), default=0.0),
        "workers": [session(record, now) for record in sessions],
        "worker_seen_age": None if depths.worker_seen is None else age(depths.worker_seen, now),
        "fallbacks": queue.outage.fallbacks,
    }


def sentences(answer: Mapping[str, Any]) -> Iterator[str]:
    """The overview for people."""
    yield f"queue {answer['queue']} in {answer['storage']}" + (" (paused)" if answer.get("paused") else "")
    if not answer["reachable"]:
        yield f"the storage does not answer: {answer['reason']}"
        return
    live = answer["workers"]
    if live:
        yield f"{len(live)} live worker processes, {sum(row['workers'] for row in live)} workers"
    else:
        seen = answer["worker_seen_age"]
        yield "no live worker" + (
            ", none was ever seen" if seen is None else f"; the last one was seen {seen:.0f} s ago"
        )
    for name, row in answer["jobs"].items():
        numbers = ", ".join(f"{row[state.value]} {state}" for state in STATE_ORDER if row.get(state.value))
        waits = f"; the oldest is due since {row['oldest_age']:.1f} s" if row.get("oldest_age") else ""
        yield f"  {name}: {numbers or 'nothing'}{waits}"
    if not answer["jobs"]:
        yield "  no instances"


def workers(storage: Storage) -> list[dict[str, Any]]:
    """The live sessions."""
    now = storage.now()
    return [session(record, now) for record in storage.sessions()]


def session(record: SessionRecord, now: int) -> dict[str, Any]:
    """One live session."""
    info = record.info
    return {
        "id": info.id,
        "host": info.host,
        "pid": info.pid,
        "version": info.version,
        "worker_type": info.worker_type,
        "workers": info.workers,
        "keys": list(info.keys),
        "jobs": list(info.jobs),
        "started": moment(info.started),
        "seen": moment(record.seen),
        "seen_age": age(record.seen, now),
        "running": list(record.running),
    }


def groups(storage: Storage) -> list[dict[str, Any]]:
    """The groups, with their limits and breakers."""
    now = storage.now()
    return [group(record, now) for record in storage.groups()]


def group(record: GroupRecord, now: int) -> dict[str, Any]:
    """One group."""
    blocked = max(0, (record.blocked_until or 0) - now) / 1000
    policy = Policy.loads(record.policy)
    breaker = "closed" if not policy.opened else "open" if blocked else "half-open"
    return {
        "name": record.name,
        "running": record.running,
        "waiting": record.waiting,
        "limit": record.limit,
        "blocked_for": blocked,
        "paused": record.paused,
        "breaker": breaker,
        "failures": policy.failures,
    }


def instance(record: Record, now: int) -> dict[str, Any]:
    """One instance: its record and its history, no body."""
    return {
        "id": record.id,
        "name": record.name,
        "state": record.state.value,
        "group": record.group,
        "priority": record.priority,
        "attempts": record.attempts,
        "crashes": record.crashes,
        "created": moment(record.created),
        "age": age(record.created, now),
        "due": moment(record.due),
        "deadline": moment(record.deadline),
        "started": moment(record.started),
        "ended": moment(record.ended),
        "reason": record.reason,
        "error": record.error,
        "session": record.session,
        "can_be_retried": record.state is State.DEAD and record.has_body,
        "history": [_event(json.loads(line)) for line in record.history],
    }


def _event(entry: dict[str, Any]) -> dict[str, Any]:
    times = {name: moment(entry[name]) for name in ("at", "started") if isinstance(entry.get(name), int)}
    return {**entry, **times}


def life(row: Mapping[str, Any]) -> Iterator[str]:
    """The life of one instance for people: what happened, and what happens next."""
    yield f"{row['name']} {row['id']}: {row['state']}"
    yield f"  enqueued {row['created']}, group {row['group']}, priority {row['priority']}"
    if row["deadline"]:
        yield f"  deadline {row['deadline']}"
    for event in row["history"]:
        yield f"  {event['at']} {_told(event)}"
    yield f"  {_next(row)}"


def _told(event: Mapping[str, Any]) -> str:
    if event.get("event") != "attempt":
        return f"{event.get('event')}: {event.get('reason') or event.get('session') or ''}".rstrip(": ")
    notes = ", ".join(f"{key} {value}" for key, value in event.get("notes", {}).items())
    why = f": {event['reason']}" if event.get("reason") else ""
    return f"attempt {event['attempt']} (begun {event['started']}) -> {event['outcome']}{why}" + (
        f" [{notes}]" if notes else ""
    )


def _next(row: Mapping[str, Any]) -> str:
    reason = f": {row['reason']}" if row["reason"] else ""
    return {
        "queued": f"waits for a worker{reason}",
        "running": f"runs since {row['started']} in session {row['session']}",
        "scheduled": f"next attempt at {row['due']}{reason}",
        "dead": f"failed for good at {row['ended']}{reason}"
        + (f"; 'pijobs jobs retry {row['id']}' queues it again" if row["can_be_retried"] else ""),
        "expired": f"expired at {row['ended']}{reason}",
        "cancelled": f"cancelled at {row['ended']}{reason}",
        "done": f"done at {row['ended']}",
    }[str(row["state"])]


def moment(ms: int | None) -> str | None:
    """ISO 8601 in UTC, with milliseconds."""
    if ms is None:
        return None
    return (
        dt.datetime.fromtimestamp(ms / 1000, dt.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def age(then: int, now: int) -> float:
    """Seconds, never negative."""
    return max(0.0, (now - then) / 1000)
