"""The life of one instance in words, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pijobs.jobs import ENDED


def told_progress(event: Mapping[str, Any]) -> str:
    """An event of progress in words."""
    done, total = (event.get(name) for name in ("done", "total"))
    return f"{done} done" if total is None else f"{done} of {total}"


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
    untried = "; no worker had begun an attempt, see 'pijobs workers'" if not row["started"] else ""
    last = f", the last wait because of: {row['reason']}" if row["reason"] else ""
    if row["state"] == "scheduled" and row["history"] and row["history"][-1].get("event") == "held":
        return f"waits for a worker that can run it, the next try in {row['due_in']:.1f} s{reason}"
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
