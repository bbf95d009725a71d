"""What became of the messages of one person, in one sentence each: "Alice got no code".

The person is looked up by the HMAC of a login name, an address or a number, as its job names it; none of these is
stored in clear. The sentences contain masked labels and redacted reasons.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from pijobs.jobs import WAITING, State
from pijobs.observe import facts
from pijobs.observe.instances import add_afterwards, instance
from pijobs.observe.selection import lookups
from pijobs.plugins.hookspecs import Page
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage

#: The most messages shown, the newest first.
MOST = 20
#: The most characters of the search text.
LONGEST = 320


class Moment(str):
    """ISO 8601, in UTC."""


@dataclass(frozen=True, slots=True)
class Told:
    """A sentence, or a part of one: a text of :data:`TEXTS` with values for its ``{names}``, which pages translate."""

    text: str
    values: Mapping[str, str | Moment | Told] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kind:
    """The words for messages of a job."""

    done: str = "Done"
    failed: str = "Failed"
    runs: str = "Runs"
    #: The kind of destination.
    destination: str = "the destination"


SENT = Kind("Sent", "Not sent", "Is being sent")
_NO_REASON = "no reason is known"
_NO_REASON_GIVEN = "no reason was given"
#: All texts of the sentences.
TEXTS = (
    *astuple(SENT), *astuple(Kind()), _NO_REASON, _NO_REASON_GIVEN, "cancelled",
    "{done} at {at}{tries}{more}.", " after {number} tries", "{runs} now, since {at}.",
    "{failed}: a newer one replaced it at {at}.", "{failed}: {reason}; at {at}.",
    "{failed}: its deadline passed at {at}{tries}{more}.", "; the last try failed: {reason}",
    "; no worker had begun it",
    "{failed}: {reason}; given up at {at}{tries}.",
    "Waiting: the queue is paused ({reason}) since {at}.", "Waiting: no worker is running.",
    "Waiting: {destination} ({group}) is paused ({reason}) since {at}.",
    "Waiting: {destination} ({group}) is down: {reason}; since {at}.",
    "Waiting: {destination} ({group}) is down: {reason}.",
    "Waiting: tried once{why}, the next try is at {at}.",
    "Waiting: tried {number} times{why}, the next try is at {at}.",
    "Waiting{why} until {at}.", "Waiting: a worker takes it next{why}.",
)  # fmt: skip
KEPT = (
    "Sent messages are kept for {finished}, failed ones for {dead}. "
    "Messages that were queued under a retired key can't be found."
)


def messages(
    queue: Queue, who: str, *, places: Collection[Storage] | None = None, limit: int = MOST
) -> list[dict[str, Any]]:
    """The newest instances that are for somebody, or go to an address or a number, whatever became of them.

    Each is a row of :func:`pijobs.observe.instances.instance` with ``told``, the sentence, and its ``tone``: ``good``,
    ``live`` or ``bad``.

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
            for state in State:
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


def sentence(told: Told) -> str:
    """The sentence as a text, with its times in UTC."""
    return told.text.format(**{name: _plain(value) for name, value in told.values.items()})


def _plain(value: str | Moment | Told) -> str:
    if isinstance(value, Told):
        return sentence(value)
    return f"{value[:10]} {value[11:16]} UTC" if isinstance(value, Moment) else value


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
                yield page.jobs, replace(SENT, destination=page.destination or SENT.destination)


def _tone(state: str) -> str:
    return "good" if state == State.DONE else "live" if state in (*WAITING, State.RUNNING) else "bad"


def _told(row: Mapping[str, Any], kind: Kind, held: _Held) -> Told:
    values: dict[str, str | Moment | Told] = {
        "at": Moment(row["ended"] or row["started"] or row["created"]),
        "tries": Told(" after {number} tries", {"number": str(row["attempts"])}) if row["attempts"] > 1 else "",
        "reason": row["reason"] or Told(_NO_REASON),
        "more": f"; {row['afterwards']}" if row["afterwards"] else "",
        **{name: Told(getattr(kind, name)) for name in ("done", "failed", "runs")},
    }
    state = State(row["state"])
    if state in WAITING:
        return held.why(row, kind)
    if state is State.CANCELLED:
        if (row["reason"] or "").startswith("superseded by "):
            return Told("{failed}: a newer one replaced it at {at}.", values)
        return Told("{failed}: {reason}; at {at}.", {**values, "reason": row["reason"] or Told("cancelled")})
    if state is State.EXPIRED:
        return Told("{failed}: its deadline passed at {at}{tries}{more}.", {**values, "more": _last_fault(row)})
    texts = {State.DONE: "{done} at {at}{tries}{more}.", State.RUNNING: "{runs} now, since {at}."}
    return Told(texts.get(state, "{failed}: {reason}; given up at {at}{tries}."), values)


def _last_fault(row: Mapping[str, Any]) -> Told | str:
    """Why the last attempt before the deadline failed."""
    faults = [event["reason"] for event in row["history"] if event.get("event") == "attempt" and event.get("reason")]
    if faults:
        return Told("; the last try failed: {reason}", {"reason": faults[-1]})
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
            return Told("Waiting: the queue is paused ({reason}) since {at}.", _of_pause(pause))
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


def _of_pause(pause: Mapping[str, Any]) -> dict[str, str | Moment | Told]:
    return {"reason": pause["reason"] or Told(_NO_REASON_GIVEN), "at": Moment(pause["at"] or "")}


def _of_group(group: Mapping[str, Any], kind: Kind) -> Told | None:
    """Why nothing is sent to a destination; None if nothing prevents it."""
    values: dict[str, str | Moment | Told] = {"destination": Told(kind.destination), "group": group["name"]}
    if group["pause"] is not None:
        values |= _of_pause(group["pause"])
        return Told("Waiting: {destination} ({group}) is paused ({reason}) since {at}.", values)
    if not group["failures"] or group["breaker"] == "closed":
        return None
    values["reason"] = group["reason"] or Told(_NO_REASON)
    if not group["since"]:  # an older release did not record when it began
        return Told("Waiting: {destination} ({group}) is down: {reason}.", values)
    values["at"] = Moment(group["since"])
    return Told("Waiting: {destination} ({group}) is down: {reason}; since {at}.", values)


def _of_its_turn(row: Mapping[str, Any]) -> Told:
    values: dict[str, str | Moment | Told] = {
        "why": f" ({row['reason']})" if row["reason"] else "", "at": Moment(row["due"]), "number": str(row["attempts"]),
    }  # fmt: skip
    if row["state"] != State.SCHEDULED:
        return Told("Waiting: a worker takes it next{why}.", values)
    if not row["attempts"]:
        return Told("Waiting{why} until {at}.", values)
    tried = "once" if row["attempts"] == 1 else "{number} times"
    return Told(f"Waiting: tried {tried}{{why}}, the next try is at {{at}}.", values)
