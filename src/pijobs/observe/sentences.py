"""The overview in words, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pijobs.observe.facts import STATE_ORDER
from pijobs.observe.load import told_load
from pijobs.request.places import ONLY_HERE

if TYPE_CHECKING:
    pass


#: Seconds for which a loss of the storage is shown.
LOSS_TOLD = 24 * 3600.0


def told_bound(row: Mapping[str, Any]) -> str:
    """A bound that is reached, in words."""
    what = {"direct": "run in the request", "refuse": "are refused", "drop": "take the place of less urgent ones"}
    return f"job {row['job']}: {row['reached']}; further calls {what[row['full']]}"


def told_pause(pause: Mapping[str, Any]) -> str:
    """In words, behind "paused"."""
    if pause["at"] is None:
        return "by an older release, which does not say who did it"
    return f"by {pause['by'] or 'a program'} at {pause['at']}: {pause['reason'] or 'no reason was given'}"


def told_bypass(row: Mapping[str, Any]) -> str:
    """Who bypasses the queue, for what, since when and why."""
    what = "all jobs run" if row["group"] is None else f"what goes to {row['group']} runs"
    since = "" if row["age"] is None else f" for {told_age(row['age'])}"
    return f"the queue is bypassed{since}, and {what} in the request, {told_pause(row)}"


def told_age(seconds: float) -> str:
    """``5 minutes``, ``3 hours``, ``2 days``."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return "1 second" if round(seconds) == 1 else f"{seconds:.0f} seconds"


def told_loss(loss: Mapping[str, Any]) -> str:
    """In words."""
    what = {
        "emptied": "was emptied: waiting instances, dead letters and pauses are gone",
        "restored": "went back to an earlier state: later instances are gone, and those that ended later may run again",
    }
    return f"the storage {what[loss['kind']]}; noticed at {loss['at']}"


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


def trouble(row: Mapping[str, Any], *, advice: bool = True) -> str:
    """What is wrong with a group, in a sentence. :param advice: with the command that ends it."""
    ends = "; 'pijobs resume' ends that" if advice else ""
    said = [f"it is paused {told_pause(row['pause'])}{ends}"] if row["paused"] else []
    if row["failures"]:
        times = "once" if row["failures"] == 1 else f"{row['failures']} times in a row"
        said.append(f"its destination failed {times}: {row['reason'] or 'no reason is known'}")
    elif row["reason"]:
        said.append(row["reason"])
    if row["blocked_for"]:
        said.append(f"none of its instances starts for {row['blocked_for']:.1f} s")
    elif row["breaker"] == "half-open":
        said.append("the next instance tries it")
    return "; ".join([*said, f"{row['waiting']} waiting"])
