"""What became of the messages of one person, in one sentence each: "Alice got no code".

The person is looked up by the HMAC of a login name, an address or a number, as its job names it; none of these is
stored in clear. The sentences contain masked labels and redacted reasons.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pijobs.base.told import Moment, Told
from pijobs.jobs import READING_ORDER, WAITING, State
from pijobs.observe import facts
from pijobs.observe.instances import add_afterwards, instance
from pijobs.observe.selection import lookups
from pijobs.observe.sentences import NO_REASON, NO_REASON_GIVEN
from pijobs.plugins.hookspecs import Page
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage

#: The most messages shown, the newest first.
MOST = 20
#: The most characters of the search text.
LONGEST = 320


class Minute(Moment):
    """In an English sentence without seconds."""

    def __format__(self, spec: str) -> str:
        return f"{self[:10]} {self[11:16]} UTC"


@dataclass(frozen=True, slots=True)
class Kind:
    """The words for messages of a job."""

    done: Told = Told("Done")
    failed: Told = Told("Failed")
    runs: Told = Told("Runs")
    #: The kind of destination.
    destination: Told = Told("the destination")


SENT = Kind(Told("Sent"), Told("Not sent"), Told("Is being sent"))
KEPT = (
    "Sent messages are kept for {finished}, failed ones for {dead}. "
    "Messages that were queued under a retired key can't be found."
)


def messages(
    queue: Queue, who: str, *, places: Collection[Storage] | None = None, limit: int = MOST
) -> list[dict[str, Any]]:
    """The newest instances that are for somebody, or go to an address or a number, whatever became of them.

    Each is a row of :func:`pijobs.observe.instances.instance` with ``told``, the sentence (a
    :class:`~pijobs.base.told.Told`), and its ``tone``: ``good``, ``live`` or ``bad``.

    :param who: a login name, an address or a number, in clear.
    :param places: where to look; None: everywhere.
    :raises StorageUnavailable: when a place does not answer.
    """
    rows: dict[str, dict[str, Any]] = {}
    kinds = list(_kinds(queue))
    for place in queue.places if places is None else places:
        now, spooled = place.now(), place is queue.spool
        here: dict[str, dict[str, Any]] = {}
        for lookup in lookups(queue, who.strip()[:LONGEST]):
            for state in READING_ORDER:
                page = place.page(state, subject=lookup, limit=limit)
                here |= {one.id: instance(one, now, spooled=spooled) for one in page.records}
        # An instance that has just moved is kept in the spool for a while; the storage has its present state.
        rows = here | rows
    newest = sorted(rows.values(), key=lambda row: str(row["created"]), reverse=True)[:limit]
    add_afterwards(queue, newest)
    held = _Held(queue)
    for row in newest:
        kind = next((kind for begin, kind in kinds if row["name"].startswith(begin)), Kind())
        row["tone"], row["told"] = _tone(row["state"]), _told(row, kind, held)
    return newest


def what_is_kept(queue: Queue) -> str:
    """Why a search may find nothing."""
    finished, dead = kept_for(queue)
    return KEPT.format(finished=_duration(finished), dead=_duration(dead))


def kept_for(queue: Queue) -> tuple[float, float]:
    """Seconds for which sent and failed messages are kept."""
    return queue.settings.keep_finished[0], queue.settings.keep_dead


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
                yield page.jobs, replace(SENT, destination=Told(page.destination or SENT.destination))


def _tone(state: str) -> str:
    return "good" if state == State.DONE else "live" if state in (*WAITING, State.RUNNING) else "bad"


def _told(row: Mapping[str, Any], kind: Kind, held: _Held) -> Told:
    at = Minute(row["ended"] or row["started"] or row["created"])
    tries = Told(" after {number} tries", number=row["attempts"]) if row["attempts"] > 1 else ""
    state, failed, reason = State(row["state"]), kind.failed, row["reason"]
    if state in WAITING:
        return held.why(row, kind)
    if state is State.DONE:
        more = f"; {row['afterwards']}" if row["afterwards"] else ""
        return Told("{done} at {at}{tries}{more}.", done=kind.done, at=at, tries=tries, more=more)
    if state is State.RUNNING:
        return Told("{runs} now, since {at}.", runs=kind.runs, at=at)
    if state is State.CANCELLED:
        if (reason or "").startswith("superseded by "):
            return Told("{failed}: a newer one replaced it at {at}.", failed=failed, at=at)
        return Told("{failed}: {reason}; at {at}.", failed=failed, reason=reason or Told("cancelled"), at=at)
    if state is State.EXPIRED:
        return Told(
            "{failed}: its deadline passed at {at}{tries}{more}.",
            failed=failed, at=at, tries=tries, more=_last_fault(row),
        )  # fmt: skip
    return Told(
        "{failed}: {reason}; given up at {at}{tries}.", failed=failed, reason=reason or NO_REASON, at=at, tries=tries
    )


def _last_fault(row: Mapping[str, Any]) -> str:
    """Why the last attempt before the deadline failed."""
    faults = [event["reason"] for event in row["history"] if event.get("event") == "attempt" and event.get("reason")]
    if faults:
        return Told("; the last try failed: {reason}", reason=faults[-1])
    return "" if row["started"] else Told("; no worker had begun it")


class _Held:
    """What keeps waiting instances from running; read once."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._groups: dict[tuple[str, str], dict[str, Any] | None] = {}
        self._places: dict[str, tuple[Mapping[str, Any] | None, bool]] = {}

    def why(self, row: Mapping[str, Any], kind: Kind) -> Told:
        place = self._queue.spool if row["place"] == "spool" else self._queue.storage
        pause, works = self._state_of(row["place"], place)
        if pause is not None:
            return Told("Waiting: the queue is paused ({reason}) since {at}.", **_of_pause(pause))
        if not works:
            return Told("Waiting: no worker is running.")
        group = self._group(row["place"], place, row["group"])
        return (None if group is None else _of_group(group, kind)) or _of_its_turn(row)

    def _state_of(self, name: str, place: Storage | None) -> tuple[Mapping[str, Any] | None, bool]:
        if name not in self._places and place is not None:
            depths = place.depths()
            pause = None if depths.pause is None else facts.pause_of(depths.pause, place.now())
            self._places[name] = pause, bool(place.sessions())
        return self._places.get(name, (None, True))

    def _group(self, name: str, place: Storage | None, group: str) -> dict[str, Any] | None:
        if (name, group) not in self._groups:
            found = None if place is None else place.group(group)
            self._groups[name, group] = None if place is None or found is None else facts.group(found, place.now())
        return self._groups[name, group]


def _of_pause(pause: Mapping[str, Any]) -> dict[str, str]:
    return {"reason": pause["reason"] or NO_REASON_GIVEN, "at": Minute(pause["at"] or "")}


def _of_group(group: Mapping[str, Any], kind: Kind) -> Told | None:
    """Why nothing is sent to a destination; None if nothing prevents it."""
    values: dict[str, str] = {"destination": kind.destination, "group": group["name"]}
    if group["pause"] is not None:
        values |= _of_pause(group["pause"])
        return Told("Waiting: {destination} ({group}) is paused ({reason}) since {at}.", **values)
    if not group["failures"] or group["breaker"] == "closed":
        return None
    values["reason"] = group["reason"] or NO_REASON
    if not group["since"]:  # an older release did not record when it began
        return Told("Waiting: {destination} ({group}) is down: {reason}.", **values)
    values["at"] = Minute(group["since"])
    return Told("Waiting: {destination} ({group}) is down: {reason}; since {at}.", **values)


def _of_its_turn(row: Mapping[str, Any]) -> Told:
    why, at, number = f" ({row['reason']})" if row["reason"] else "", Minute(row["due"]), row["attempts"]
    if row["state"] != State.SCHEDULED:
        return Told("Waiting: a worker takes it next{why}.", why=why)
    if not number:
        return Told("Waiting{why} until {at}.", why=why, at=at)
    if number == 1:
        return Told("Waiting: tried once{why}, the next try is at {at}.", why=why, at=at)
    return Told("Waiting: tried {number} times{why}, the next try is at {at}.", number=number, why=why, at=at)
