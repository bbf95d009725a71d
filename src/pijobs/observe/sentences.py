"""The overview in words, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pijobs.base.told import Moment, Told
from pijobs.observe.facts import STATE_ORDER
from pijobs.observe.load import told_load
from pijobs.request.places import ONLY_HERE

if TYPE_CHECKING:
    pass


#: Seconds for which a loss of the storage is shown.
LOSS_TOLD = 24 * 3600.0
ENDS_THAT = Told("'pijobs resume' ends that")
NO_REASON = Told("no reason is known")
NO_REASON_GIVEN = Told("no reason was given")
_FURTHER_CALLS = {
    "direct": Told("run in the request"),
    "refuse": Told("are refused"),
    "drop": Told("take the place of less urgent ones"),
}
_LOST = {
    "emptied": Told("was emptied: waiting instances, dead letters and pauses are gone"),
    "restored": Told(
        "went back to an earlier state: later instances are gone, and those that ended later may run again"
    ),
}


def told_bound(row: Mapping[str, Any]) -> Told:
    """A bound that is reached, in words."""
    what = _FURTHER_CALLS[row["full"]]
    return Told("job {job}: {reached}; further calls {what}", job=row["job"], reached=row["reached"], what=what)


def told_pause(pause: Mapping[str, Any]) -> Told:
    """In words, behind "paused"."""
    if pause["at"] is None:
        return Told("by an older release, which does not say who did it")
    who, reason = pause["by"] or Told("a program"), pause["reason"] or NO_REASON_GIVEN
    return Told("by {who} at {at}: {reason}", who=who, at=Moment(pause["at"]), reason=reason)


def told_bypass(row: Mapping[str, Any]) -> Told:
    """Who bypasses the queue, for what, since when and why."""
    what = Told("all jobs run") if row["group"] is None else Told("what goes to {name} runs", name=row["group"])
    since = "" if row["age"] is None else Told(" for {time}", time=told_age(row["age"]))
    return Told(
        "the queue is bypassed{since}, and {what} in the request, {how}", since=since, what=what, how=told_pause(row)
    )


def short_id(id: str) -> str:
    """The beginning of an id; of one that begins with the job's name, such as a periodic job's, its end."""
    return id[:8] if "@" not in id else f"…{id[-8:]}"


def told_age(seconds: float) -> Told:
    """``5 minutes``, ``3 hours``, ``2 days``."""
    if seconds >= 2 * 86400:
        return Told("{number:.0f} days", number=seconds / 86400)
    if seconds >= 2 * 3600:
        return Told("{number:.0f} hours", number=seconds / 3600)
    if seconds >= 2 * 60:
        return Told("{number:.0f} minutes", number=seconds / 60)
    return Told("1 second" if round(seconds) == 1 else "{number:.0f} seconds", number=seconds)


def told_loss(loss: Mapping[str, Any]) -> Told:
    """In words."""
    return Told("the storage {what}; noticed at {at}", what=_LOST[loss["kind"]], at=Moment(loss["at"]))


def sentences(answer: Mapping[str, Any]) -> Iterator[str]:
    """The overview for people."""
    paused = f" (paused {told_pause(answer['pause'])})" if answer.get("pause") else ""
    yield f"queue {answer['queue']} in {answer['storage']}{paused}"
    if not answer["reachable"]:
        ways = {"spool": "go to the spool of this machine", "direct": "run in the request", None: "are refused"}
        yield f"the storage {answer['what']}: {answer['reason']}"
        yield f"calls {ways[answer['fallback']]} meanwhile; instances that waited before stay where they are"
        if answer["spool"] is not None:
            yield f"{ONLY_HERE}:"
            yield _of_workers(answer["workers"]) if answer["workers"] else "no live worker of this machine"
            yield from _of_instances(answer)
        return
    if answer["loss"] and answer["loss"]["age"] < LOSS_TOLD:
        yield told_loss(answer["loss"])
    yield from (told_bypass(row) for row in answer["bypasses"])
    live = answer["workers"]
    if live:
        yield f"{_of_workers(live)}, {told_load(answer['load'])}"
    else:
        seen = answer["worker_seen_age"]
        yield "no live worker" + (
            ", none was ever seen" if seen is None else f"; the last one was seen {seen:.0f} s ago"
        )
    for row in answer["bounds"]:
        if row["reached"]:
            yield told_bound(row)
    yield from _of_instances(answer)
    if answer["spool"]:
        yield "of these in the spool of this machine:"
        yield from _numbers_of(answer["spool"])


def _of_workers(live: Sequence[Mapping[str, Any]]) -> str:
    return f"{len(live)} live worker processes, {sum(row['workers'] for row in live)} workers"


def _of_instances(answer: Mapping[str, Any]) -> Iterator[str]:
    yield from _of_jobs(answer)
    for row in answer["groups"]:
        yield f"group {row['name']}: {trouble(row)}"
    yield from _of_failures(answer)


def _of_jobs(answer: Mapping[str, Any]) -> Iterator[str]:
    yield from _numbers_of(answer["jobs"])
    if not answer["jobs"]:
        yield "  no instances"


def _numbers_of(jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, row in jobs.items():
        numbers = ", ".join(f"{row[state.value]} {state}" for state in STATE_ORDER if row.get(state.value))
        waits = f"; the oldest has been due for {row['oldest_age']:.1f} s" if row.get("oldest_age") else ""
        yield f"  {name}: {numbers or 'nothing'}{waits}"


def _of_failures(answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["failures"]:
        yield "the newest failures ('pijobs jobs show ID' tells more):"
    for row in answer["failures"]:
        yield f"  {row['ended']}  {row['id']}  {row['name']} {row['state']}: {row['reason'] or 'no reason is known'}"


def trouble(row: Mapping[str, Any], *, advice: bool = True) -> Told:
    """What is wrong with a group, in a sentence. :param advice: with the command that ends it."""
    return Told.joined("; ", [*_trouble(row, advice), Told("{number} waiting", number=row["waiting"])])


def _trouble(row: Mapping[str, Any], advice: bool) -> Iterator[str]:
    if row["paused"]:
        yield Told("it is paused {how}", how=told_pause(row["pause"]))
        if advice:
            yield ENDS_THAT
    reason = row["reason"] or NO_REASON
    if row["failures"] == 1:
        yield Told("its destination failed once: {reason}", reason=reason)
    elif row["failures"]:
        yield Told("its destination failed {number} times in a row: {reason}", number=row["failures"], reason=reason)
    elif row["reason"]:
        yield row["reason"]
    if row["blocked_for"]:
        yield Told("none of its instances starts for {time:.1f} s", time=row["blocked_for"])
    elif row["breaker"] == "half-open":
        yield Told("the next instance tries it")
