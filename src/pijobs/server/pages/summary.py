"""Is it going out now? One sentence, from the answers of :mod:`pijobs.observe`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pijobs.observe.status import told_pause, trouble
from pijobs.server.pages.formatting import duration

Tone = Literal["good", "idle", "warn", "bad"]
#: Seconds; a last success within this is "now", and failures within it are news.
NOW = 600.0


@dataclass(frozen=True, slots=True)
class Headline:
    """A sentence in large type, and one below it."""

    tone: Tone
    text: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Topic:
    """What the sentence is about.

    :param things: in plural: "mails".
    :param prefix: of the names of the jobs; empty: all.
    """

    things: str
    prefix: str = ""

    def of(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        return {name: row for name, row in rows.items() if self.covers(name)}

    def covers(self, name: str) -> bool:
        return name.startswith(self.prefix)


def headline(
    topic: Topic,
    answer: Mapping[str, Any],
    recent: Mapping[str, Any],
    most_age: float,
    critical: Mapping[str, str] | None = None,
) -> Headline:
    """The sentence about a topic; never a green one while a critical check fails.

    :param answer: of :func:`pijobs.observe.status.overview`; its groups with the names of the ``jobs`` that wait for
        them.
    :param most_age: seconds that the oldest due instance may wait (``PI_JOB_QUEUE_READY_MAX_AGE``).
    :param critical: the critical checks that fail: name and message. With ``storage`` among them the answer has its
        ``fallback``.
    """
    critical = critical or {}
    found = (
        _stopped(topic, answer, most_age, critical.get("storage"))
        or _held(topic, answer, most_age)
        or _going(topic, answer, recent)
    )
    if critical and found.tone in ("good", "idle"):
        more = f"But something is wrong, see below: {', '.join(critical)}. {found.more}"
        return Headline("warn", found.text, more.strip())
    return found


def _held(topic: Topic, answer: Mapping[str, Any], most_age: float) -> Headline | None:
    """What waits for too long, or for a destination that is down or paused."""
    oldest = max((row.get("oldest_age") or 0.0 for row in topic.of(answer["jobs"]).values()), default=0.0)
    groups = [row for row in answer["groups"] if any(map(topic.covers, row["jobs"]))]
    for row in (row for row in groups if row["failures"]):
        return Headline("bad", f"Some {topic.things} wait: {row['name']} is down.", f"{_begin(trouble(row))}.")
    for row in (row for row in groups if row["paused"]):
        return Headline("warn", f"Some {topic.things} wait: {row['name']} is paused.", f"{_begin(trouble(row))}.")
    if oldest > most_age:
        text = f"{_begin(topic.things)} are late."
        return Headline("bad", text, f"The oldest one is due since {duration(oldest)}.")
    return None


def _going(topic: Topic, answer: Mapping[str, Any], recent: Mapping[str, Any]) -> Headline:
    things, begin = topic.things, _begin(topic.things)
    last = min((row["last_age"] for row in topic.of(recent["jobs"]).values()), default=None)
    failed = [row for row in recent["failures"] if topic.covers(row["name"]) and row["age"] < NOW]
    went = "" if last is None else f"The last one went out {_ago(last)}."
    if failed:
        number = sum(row["number"] for row in failed)
        text = f"{begin} are going out, but {number} failed lately." if last is not None else f"{begin} are failing."
        return Headline("warn", text, f"The newest: {min(failed, key=lambda row: row['age'])['reason']}")
    if last is not None and last < NOW:
        return Headline("good", f"{begin} are going out.", went)
    if sum(row.get("queued", 0) + row.get("running", 0) for row in topic.of(answer["jobs"]).values()):
        return Headline("good", f"{begin} are on their way.", went)
    if later := sum(row.get("scheduled", 0) for row in topic.of(answer["jobs"]).values()):
        return Headline("idle", f"No {things} to send just now; {later} wait for their time or next attempt.", went)
    return Headline("idle", f"No {things} to send just now. Workers are ready.", went)


def _stopped(topic: Topic, answer: Mapping[str, Any], most_age: float, refuses: str | None) -> Headline | None:
    things = topic.things
    if answer["storage"] is None:
        return Headline("idle", f"The queue is off; {things} go out in the request.", "PI_JOB_QUEUE_CLASS turns it on.")
    if not answer["reachable"]:
        return _without_storage(topic, answer, most_age)
    if refuses is not None:
        return _by_another_way(topic, answer["fallback"], "the storage takes nothing new", refuses)
    if answer["paused"]:
        waiting = answer["states"]["queued"]
        why = told_pause(answer["pause"])
        return Headline("warn", f"No {things} are going out: the queue is paused.", f"{waiting} waiting. Paused {why}")
    if not answer["workers"] and answer["mode"] == "queued":
        seen = answer["worker_seen_age"]
        last = "None was ever seen" if seen is None else f"The last one was seen {_ago(seen)}"
        advice = "start one with 'pijobs worker'"
        return Headline("bad", f"No {things} are going out: there is no live worker.", f"{last}; {advice}.")
    return None


def _without_storage(topic: Topic, answer: Mapping[str, Any], most_age: float) -> Headline:
    reason, away = str(answer["reason"]), f"the storage {answer['what']}"
    held = _held(topic, answer, most_age) if answer.get("spool") else None
    if held is not None:
        return Headline(held.tone, held.text, f"{held.more} They lie in the spool of this machine: {away}. {reason}")
    stays = "What waited before stays where it is. " if answer["fallback"] else ""
    return _by_another_way(topic, answer["fallback"], away, stays + reason)


def _by_another_way(topic: Topic, way: str | None, because: str, more: str) -> Headline:
    begin = _begin(topic.things)
    ways = {"spool": f"{begin} go out by the spool of this machine", "direct": f"{begin} go out in the request"}
    if way in ways:
        return Headline("warn", f"{ways[way]}: {because}.", more)
    return Headline("bad", f"No {topic.things} are going out: {because}.", more)


def _begin(text: str) -> str:
    """With a capital letter, and the others as they are."""
    return text[:1].upper() + text[1:]


def _ago(seconds: float) -> str:
    return f"{duration(seconds)} ago"
