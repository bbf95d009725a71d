"""The history of an instance as a timeline. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pijobs.observe.life import told_progress
from pijobs.server.pages.languages import _

_TONES = {"done": "good", "scheduled": "warn", "dead": "bad", "expired": "bad", "cancelled": "idle"}
OUTCOMES = {
    "done": "Attempt {number}{uncounted}: done",
    "scheduled": "Attempt {number}{uncounted}: failed; another attempt follows",
    "queued": "Attempt {number}{uncounted}: returned",
    "dead": "Attempt {number}{uncounted}: failed for good",
    "expired": "Attempt {number}{uncounted}: too late",
}
ENDS = {
    "dead": "Failed for good",
    "expired": "Expired: the deadline passed",
    "cancelled": "Cancelled",
    "done": "Done",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of a timeline. :ivar at: ISO 8601; None: in the future."""

    tone: str
    title: str
    at: str | None
    reason: str | None = None
    took: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    #: The stack frames of its error.
    frames: tuple[str, ...] = ()
    #: Why the instance waits.
    why: tuple[str, ...] = ()


def life(row: Mapping[str, Any]) -> list[Moment]:
    """The past and next steps of an instance (of :func:`pijobs.observe.instances.explained`)."""
    return [Moment("idle", _("Enqueued"), row["created"]), *map(_event, row["history"]), *_now(row)]


def step_of(event: Mapping[str, Any], row: Mapping[str, Any]) -> Moment:
    """One event (of :func:`pijobs.observe.events.events`) as a step."""
    if event["event"] == "enqueued":
        return Moment("idle", _("Enqueued"), event["at"])
    if event["event"] == "began":
        return Moment("live", _("Runs"), event["at"])
    if event["event"] == "ended":
        return Moment(_TONES[row["state"]], _(ENDS[row["state"]]), event["at"], event["reason"])
    return _event(event)


def _event(event: Mapping[str, Any]) -> Moment:
    at, reason = event["at"], event.get("reason")
    if event.get("event") == "held":
        return Moment("warn", _("A worker could not run it and returned it"), at, reason)
    if event.get("event") == "crashed":
        return Moment("bad", _("The worker that ran it died"), at)
    if event.get("event") == "progress":
        return Moment("idle", told_progress(event).capitalize(), at, event.get("text"))
    if event.get("event") != "attempt":
        return Moment("idle", str(event.get("event")).capitalize(), at, reason)
    outcome = str(event["outcome"])
    uncounted = _(" (not counted)") if event.get("counted") is False else ""
    title = _(OUTCOMES.get(outcome, "Attempt {number}{uncounted}"), number=event["attempt"], uncounted=uncounted)
    return Moment(
        _TONES.get(outcome, "idle"), title, at, reason,
        took=event.get("took"), facts=event.get("notes", {}), frames=tuple(event.get("frames", ())),
    )  # fmt: skip


def _now(row: Mapping[str, Any]) -> Iterator[Moment]:
    state, why = row["state"], tuple(map(_, row["waits"]))
    last = row["history"][-1] if row["history"] else {}
    if state == "queued":
        yield Moment("live", _("Waits for a worker"), None, row["reason"], why=why)
    elif state == "running":
        yield Moment("live", _("Runs"), row["started"])
    elif state == "scheduled":
        repeated = last.get("reason") == row["reason"]
        yield Moment("live", _("Next attempt"), row["due"], None if repeated else row["reason"], why=why)
    elif last.get("outcome") != state:
        # Otherwise the last attempt already shows the end.
        yield Moment(_TONES[state], _(ENDS[state]), row["ended"], row["reason"])
