"""What became of the messages of one person, in one sentence each: "Alice got no code".

The person is looked up by the HMAC of a login name, an address or a number, as its job names it; nothing of that is
stored in clear. What is told are masked labels, and reasons that are redacted already.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pijobs.jobs import WAITING, State
from pijobs.observe import status
from pijobs.observe.instances import add_afterwards, instance
from pijobs.observe.selection import lookups
from pijobs.plugins.hookspecs import Page
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage

#: Messages that are told, the newest.
MOST = 20
#: Characters of what is looked for.
LONGEST = 320

#: A sentence in parts: words, each with the moment (ISO 8601) that stands behind them, or None.
Told = list[tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class Kind:
    """How messages of a job are spoken of."""

    done: str = "Done"
    failed: str = "Failed"
    runs: str = "Runs"
    #: What they go to.
    destination: str = "the destination"


def messages(
    queue: Queue, who: str, *, places: Collection[Storage] | None = None, limit: int = MOST
) -> list[dict[str, Any]]:
    """The newest instances that are for somebody, or go to an address or a number, whatever became of them.

    Each is a row of :func:`pijobs.observe.instances.instance` with ``told``, the sentence in parts, and its ``tone``:
    ``good``, ``live`` or ``bad``.

    :param who: a login name, an address or a number, in clear.
    :param places: where to look; None: everywhere.
    :raises StorageUnavailable: when a place does not answer.
    """
    rows: dict[str, dict[str, Any]] = {}
    kinds = list(_kinds(queue))
    for place in queue.places if places is None else places:
        now, spooled = place.now(), place is queue.spool
        for lookup in lookups(queue, who.strip()[:LONGEST]):
            for state in State:
                page = place.page(state, subject=lookup, limit=limit)
                rows |= {one.id: instance(one, now, spooled=spooled) for one in page.records}
    newest = sorted(rows.values(), key=lambda row: str(row["created"]), reverse=True)[:limit]
    add_afterwards(queue, newest)
    held = _Held(queue)
    for row in newest:
        kind = next((kind for begin, kind in kinds if row["name"].startswith(begin)), Kind())
        row["tone"], row["told"] = _tone(row["state"]), list(_told(row, kind, held))
    return newest


def sentence(told: Told) -> str:
    """The sentence as one text, with times of day in UTC."""
    return "".join(words if not at else f"{words} {at[:10]} {at[11:16]} UTC" for words, at in told) + "."


def what_is_kept(queue: Queue) -> str:
    """What else there may have been, for who finds nothing."""
    finished, dead = (_duration(seconds) for seconds in (queue.settings.keep_finished[0], queue.settings.keep_dead))
    return (
        f"What was sent is kept for {finished}, what failed for {dead}. "
        "A message that was queued under a key which has been retired is found no more"
    )


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            number = f"{seconds / size:.3g}"
            return f"{number} {unit}{'' if number == '1' else 's'}"
    return f"{seconds:g} seconds"


def _kinds(queue: Queue) -> Iterator[tuple[str, Kind]]:
    for _, pages in queue.plugins.call("register_pages"):
        for page in pages if isinstance(pages, Iterable) else ():
            if isinstance(page, Page) and page.things and page.jobs:
                yield page.jobs, Kind("Sent", "Not sent", "Is being sent", page.destination or "the destination")


def _tone(state: str) -> str:
    return "good" if state == State.DONE else "live" if state in (*WAITING, State.RUNNING) else "bad"


def _told(row: Mapping[str, Any], kind: Kind, held: _Held) -> Iterator[tuple[str, str | None]]:
    tries = "" if row["attempts"] < 2 else f" after {row['attempts']} tries"
    state, at, why = row["state"], row["ended"], row["reason"]
    if state == State.DONE:
        yield f"{kind.done} at", at
        yield tries + (f"; {row['afterwards']}" if row["afterwards"] else ""), None
    elif state == State.RUNNING:
        yield f"{kind.runs} now, since", row["started"]
    elif state in WAITING:
        yield from held.why(row, kind)
    elif state == State.CANCELLED:
        yield (f"{kind.failed}: {'a newer one took its place' if _is_superseded(why) else why or 'cancelled'}, at"), at
    elif state == State.EXPIRED:
        yield f"{kind.failed}: its time was over at", at
        yield tries + _last_fault(row), None
    else:
        yield f"{kind.failed}: {why or 'no reason is known'}; given up at", at
        yield tries, None


def _is_superseded(reason: str | None) -> bool:
    return bool(re.match("superseded by ", reason or ""))


def _last_fault(row: Mapping[str, Any]) -> str:
    """Why the last attempt before the deadline came to nothing."""
    faults = [event["reason"] for event in row["history"] if event.get("event") == "attempt" and event.get("reason")]
    return f"; the last try failed: {faults[-1]}" if faults else "" if row["started"] else "; no worker had begun it"


class _Held:
    """What keeps waiting instances from running; asked for once."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._groups: dict[tuple[str, str], dict[str, Any] | None] = {}
        self._places: dict[str, tuple[Mapping[str, Any] | None, bool]] = {}

    def why(self, row: Mapping[str, Any], kind: Kind) -> Iterator[tuple[str, str | None]]:
        place = self._queue.spool if row["place"] == "spool" else self._queue.storage
        pause, works = self._state_of(row["place"], place)
        group = self._group(row["place"], place, row["group"])
        tried = "once" if row["attempts"] == 1 else f"{row['attempts']} times"
        why = f" ({row['reason']})" if row["reason"] else ""
        if pause is not None:
            yield f"Waiting: the queue is paused ({pause['reason'] or 'no reason was given'}) since", pause["at"]
        elif not works:
            yield "Waiting: no worker is running", None
        elif group is not None and group["pause"] is not None:
            reason = group["pause"]["reason"] or "no reason was given"
            yield f"Waiting: {kind.destination} ({row['group']}) is paused ({reason}) since", group["pause"]["at"]
        elif group is not None and group["failures"] and group["breaker"] != "closed":
            what = f"Waiting: {kind.destination} ({row['group']}) is down: {group['reason'] or 'no reason is known'}"
            yield (f"{what}; since", group["since"]) if group["since"] else (what, None)
        elif row["state"] == State.SCHEDULED:
            yield (
                (f"Waiting: tried {tried}{why}, the next try is at" if row["attempts"] else f"Waiting{why} until"),
                row["due"],
            )
        else:
            yield f"Waiting: a worker takes it next{why}", None

    def _state_of(self, name: str, place: Storage | None) -> tuple[Mapping[str, Any] | None, bool]:
        if name not in self._places and place is not None:
            depths = place.depths()
            pause = None if depths.pause is None else status.pause_of(depths.pause, place.now())
            self._places[name] = pause, bool(place.sessions())
        return self._places.get(name, (None, True))

    def _group(self, name: str, place: Storage | None, group: str) -> dict[str, Any] | None:
        if (name, group) not in self._groups:
            found = None if place is None else place.group(group)
            self._groups[name, group] = None if place is None or found is None else status.group(found, place.now())
        return self._groups[name, group]
