"""Facts about workers and groups, as plain values that JSON knows.

Times are ISO 8601 in UTC; ages are seconds on the clock of the storage.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pijobs.execution.groups import DEFAULT_BOUND, HEALTHY, Policy
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.records import GroupRecord
from pijobs.storage.sessions import SessionRecord
from pijobs.storage.values import GROUPS, Pause

if TYPE_CHECKING:
    pass


#: The order for people: first what is alive, then what failed.
STATE_ORDER = (
    State.RUNNING, State.QUEUED, State.SCHEDULED, State.DEAD, State.EXPIRED, State.CANCELLED, State.DONE,
)  # fmt: skip

#: The last millisecond that a date can be written for.
LAST_MOMENT = 253_402_300_799_999


def pause_of(pause: Pause, now: int) -> dict[str, Any]:
    """Who paused, when and why."""
    since = None if pause.at is None else age(pause.at, now)
    return {"at": moment(pause.at), "age": since, "by": pause.by, "reason": pause.reason}


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
        "commit": info.commit,
        "worker_type": info.worker_type,
        "workers": info.workers,
        "keys": list(info.keys),
        "other_keys": {key: age(at, now) for key, at in info.other_keys.items()},
        "jobs": list(info.jobs),
        "definitions": info.definitions,
        "started": moment(info.started),
        "seen": moment(record.seen),
        "seen_age": age(record.seen, now),
        "running": list(record.running),
        "busy": len(record.running) if info.busy is None else info.busy / 1000,
        "took": info.took / 1000,
        "quiet": moment(info.quiet) if info.quiet else None,
        "resting": bool(info.resting),
    }


def groups(
    storage: Storage, *, after: str = "", limit: int | None = None, healthy: str | None = None
) -> Iterator[dict[str, Any]]:
    """The groups by name, with their limits and breakers: up to ``limit`` (None: all) of those behind ``after``.

    :param healthy: see :meth:`pijobs.storage.contract.Storage.groups`.
    """
    now = storage.now()
    left = math.inf if limit is None else limit
    while left > 0:
        page = storage.groups(after=after, limit=int(min(GROUPS, left)), healthy=healthy)
        yield from (group(record, now) for record in page)
        if len(page) < GROUPS:
            return
        after, left = page[-1].name, left - len(page)


def groups_in_trouble(storage: Storage) -> Iterator[dict[str, Any]]:
    """The groups that are paused, fail, or have a warning, by name."""
    for row in groups(storage, healthy=HEALTHY):
        if row["reason"] or row["breaker"] != "closed" or row["paused"]:
            yield row


def group(record: GroupRecord, now: int) -> dict[str, Any]:
    """One group."""
    blocked = max(0, (record.blocked_until or 0) - now) / 1000
    policy = Policy.loads(record.policy)
    breaker = "closed" if not policy.opened else "open" if blocked else "half-open"
    ceiling = policy.ceiling(now)
    slowed = ceiling is not None and ceiling < DEFAULT_BOUND
    # The ceiling may have risen back to normal since the last attempt; then its reason is out of date.
    reason = policy.reason if policy.failures or slowed or ceiling is None else None
    return {
        "name": record.name,
        "running": record.running,
        "waiting": record.waiting,
        "limit": record.limit,
        "blocked_for": blocked,
        "paused": record.paused,
        "pause": None if record.pause is None else pause_of(record.pause, now),
        "breaker": breaker,
        "opened": policy.opened,
        "failures": policy.failures,
        "since": moment(policy.since) if policy.failures and policy.since else None,
        "slowed": slowed,
        "reason": reason,
    }


def moment(ms: int | None) -> str | None:
    """ISO 8601 in UTC, with milliseconds; the last possible moment for later ones."""
    if ms is None:
        return None
    begin = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
    shown = begin + dt.timedelta(milliseconds=min(ms, LAST_MOMENT))
    return shown.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age(then: int, now: int) -> float:
    """Seconds, never negative."""
    return max(0.0, (now - then) / 1000)
