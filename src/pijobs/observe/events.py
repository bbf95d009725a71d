"""The last events of a job or a worker: those of :mod:`pijobs.observe.instances` for each instance, by time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pijobs.jobs import State
from pijobs.observe.facts import STATE_ORDER
from pijobs.observe.instances import instance
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage

#: Records of each state that are looked at.
LOOKED_AT = 100


def events(
    queue: Queue, *, job: str | None = None, worker: str | None = None, limit: int, places: Collection[Storage]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The newest events, each with its instance, the newest first.

    An event has ``event`` and ``at``; beside those of a history there are ``enqueued``, ``began``, and ``ended``, of
    what ended without an attempt that says so.

    :param worker: ``"<host> pid <number>"``: only what it did.
    :raises StorageUnavailable: when a place does not answer.
    """
    rows = [
        instance(record, place.now(), spooled=place is queue.spool)
        for place in places
        for state in STATE_ORDER
        for record in place.page(state, name=job, limit=LOOKED_AT).records
    ]
    names = {one.info.id: f"{one.info.host} pid {one.info.pid}" for place in places for one in place.sessions()}
    found = [
        (event, row)
        for row in rows
        for event in _of(row, names)
        if event["at"] and (worker is None or event.get("worker") == worker)
    ]
    return sorted(found, key=lambda pair: str(pair[0]["at"]), reverse=True)[:limit]


def _of(row: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    yield {"event": "enqueued", "at": row["created"]}
    yield from row["history"]
    last = row["history"][-1] if row["history"] else {}
    if row["state"] == State.RUNNING.value:
        yield {"event": "began", "at": row["started"], "worker": names.get(row["session"])}
    elif row["ended"] and last.get("outcome") != row["state"]:
        yield {"event": "ended", "at": row["ended"], "reason": row["reason"]}
