"""One sentence on whether jobs are going out now, from the answers of :mod:`pijobs.observe`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pijobs.server.pages.formatting import begin, duration, told_pause
from pijobs.server.pages.languages import _, plural

Tone = Literal["good", "idle", "warn", "bad"]
#: Seconds: a success this recent counts as now, a failure as news.
NOW = 600.0


@dataclass(frozen=True, slots=True)
class Headline:
    """A sentence, and a second one with details.

    :param link: endpoint of the page that helps.
    """

    tone: Tone
    text: str
    more: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Topic:
    """The topic of a sentence.

    :param things: plural noun, such as "mails".
    :param prefix: prefix of the jobs' names; empty: all jobs.
    """

    things: str
    prefix: str = ""

    @property
    def name(self) -> str:
        return _(self.things)

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
    """The sentence about a topic. Not good or idle while a critical check fails.

    :param answer: the answer of :func:`pijobs.observe.status.overview`, with the names of the waiting ``jobs`` in each
        group, and with ``fallback`` if the check ``storage`` fails.
    :param most_age: seconds that a due instance may wait (``PI_JOB_QUEUE_READY_MAX_AGE``).
    :param critical: the critical checks that fail: name and message.
    """
    critical = critical or {}
    found = (
        _stopped(topic, answer, most_age, critical.get("storage"))
        or _delayed(topic, answer, most_age)
        or _flow(topic, answer, recent)
    )
    if critical and found.tone in ("good", "idle"):
        more = f"{_('But something is wrong, see below: {names}.', names=', '.join(critical))} {found.more}"
        return Headline("warn", found.text, more.strip(), found.link)
    return found


def _delayed(topic: Topic, answer: Mapping[str, Any], most_age: float) -> Headline | None:
    """The sentence if jobs are late, or a destination is down or paused; else None."""
    oldest = max((row.get("oldest_age") or 0.0 for row in topic.of(answer["jobs"]).values()), default=0.0)
    groups = [row for row in answer["groups"] if any(map(topic.covers, row["jobs"]))]
    for row in (row for row in groups if row["failures"]):
        text = _("Some {things} wait: {name} is down.", things=topic.name, name=row["name"])
        return Headline("bad", text, _down(row), "workers")
    for row in (row for row in groups if row["paused"]):
        text = _("Some {things} wait: {name} is paused.", things=topic.name, name=row["name"])
        more = _("{number} waiting. Paused {how}", number=row["waiting"], how=told_pause(row["pause"]))
        return Headline("warn", text, more, "workers")
    if oldest > most_age:
        text = _("{things} are late.", things=begin(topic.name))
        return Headline("bad", text, _("The oldest one has been due for {time}.", time=duration(oldest)), "jobs")
    return None


def _down(row: Mapping[str, Any]) -> str:
    failed = plural(
        row["failures"],
        "It failed once: {reason}.",
        "It failed {number} times in a row: {reason}.",
        reason=row["reason"] or _("no reason is known"),
    )
    again = _("It is tried again in {time}.", time=duration(row["blocked_for"])) if row["blocked_for"] else ""
    return " ".join(filter(None, [failed, again, _("{number} waiting.", number=row["waiting"])]))


def _flow(topic: Topic, answer: Mapping[str, Any], recent: Mapping[str, Any]) -> Headline:
    things, capital = topic.name, begin(topic.name)
    last = min((row["last_age"] for row in topic.of(recent["jobs"]).values()), default=None)
    failed = [row for row in recent["failures"] if topic.covers(row["name"]) and row["age"] < NOW]
    went = "" if last is None else _("The last one went out {time} ago.", time=duration(last))
    if failed:
        number = sum(row["number"] for row in failed)
        text = _("{things} are failing.", things=capital)
        if last is not None:
            text = _("{things} are going out, but {number} failed lately.", things=capital, number=number)
        newest = min(failed, key=lambda row: row["age"])["reason"]
        return Headline("warn", text, _("The newest: {reason}", reason=newest), "failures")
    if last is not None and last < NOW:
        return Headline("good", _("{things} are going out.", things=capital), went)
    if sum(row.get("queued", 0) + row.get("running", 0) for row in topic.of(answer["jobs"]).values()):
        return Headline("good", _("{things} are on their way.", things=capital), went)
    if later := sum(row.get("scheduled", 0) for row in topic.of(answer["jobs"]).values()):
        text = _(
            "No {things} to send just now; {number} wait for their time or next attempt.", things=things, number=later
        )
        return Headline("idle", text, went)
    return Headline("idle", _("No {things} to send just now. Workers are ready.", things=things), went)


def _stopped(topic: Topic, answer: Mapping[str, Any], most_age: float, refuses: str | None) -> Headline | None:
    things = topic.name
    if answer["storage"] is None:
        text = _("The queue is off; {things} go out in the request.", things=things)
        return Headline("idle", text, _("PI_JOB_QUEUE_CLASS turns it on."))
    if not answer["reachable"]:
        return _without_storage(topic, answer, most_age)
    if refuses is not None:
        return _fallback(topic, answer["fallback"], _("the storage accepts nothing new"), refuses)
    if answer["paused"]:
        waiting = answer["states"]["queued"]
        more = _("{number} waiting. Paused {how}", number=waiting, how=told_pause(answer["pause"]))
        return Headline("warn", _("No {things} are going out: the queue is paused.", things=things), more, "workers")
    if not answer["workers"] and answer["mode"] == "queued":
        seen = answer["worker_seen_age"]
        last = _("None was ever seen.") if seen is None else _("The last one was seen {time} ago.", time=duration(seen))
        return Headline("bad", _("No {things} are going out: there is no live worker.", things=things), last, "workers")
    return None


def _without_storage(topic: Topic, answer: Mapping[str, Any], most_age: float) -> Headline:
    reason, away = str(answer["reason"]), _("the storage {what}", what=_(answer["what"]))
    held = _delayed(topic, answer, most_age) if answer.get("spool") else None
    if held is not None:
        more = f"{held.more} {_('They are in the spool of this machine: {why}.', why=away)} {reason}"
        return Headline(held.tone, held.text, more, held.link)
    stays = _("Instances that waited before stay where they are.") + " " if answer["fallback"] else ""
    return _fallback(topic, answer["fallback"], away, stays + reason)


def _fallback(topic: Topic, way: str | None, because: str, more: str) -> Headline:
    capital = begin(topic.name)
    if way == "spool":
        text = _("{things} go out by the spool of this machine: {why}.", things=capital, why=because)
        return Headline("warn", text, more)
    if way == "direct":
        return Headline("warn", _("{things} go out in the request: {why}.", things=capital, why=because), more)
    return Headline("bad", _("No {things} are going out: {why}.", things=topic.name, why=because), more)
