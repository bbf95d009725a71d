"""One answer to "what is going on?", for commands, routes, readiness, metrics and pages.

Everything here is made of plain values that JSON knows, without bodies; times are ISO 8601 in UTC, ages are seconds on
the storage's clock.
"""

from __future__ import annotations

import datetime as dt
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pijobs.errors import StorageUnavailable
from pijobs.execution.groups import DEFAULT_BOUND, Policy
from pijobs.jobs import WAITING, State
from pijobs.observe.load import load, told_load
from pijobs.request.bounds import Bound
from pijobs.request.places import ONLY_HERE, Places
from pijobs.request.queue import Queue
from pijobs.settings import Settings
from pijobs.storage.contract import Storage
from pijobs.storage.records import Depths, GroupRecord, Loss, Record
from pijobs.storage.sessions import SessionRecord
from pijobs.storage.values import GROUPS, Pause

if TYPE_CHECKING:
    from pijobs.definitions.records import Fingerprint

#: In which order people want to see them: what lives first, then what went wrong.
STATE_ORDER = (
    State.RUNNING, State.QUEUED, State.SCHEDULED, State.DEAD, State.EXPIRED, State.CANCELLED, State.DONE,
)  # fmt: skip

#: The last millisecond that a date can be written for.
LAST_MOMENT = 253_402_300_799_999
#: How many of the newest failures the overview tells.
FAILURES = 5
#: Seconds for which people are told that the storage lost something.
LOSS_TOLD = 24 * 3600.0


def overview(queue: Queue) -> dict[str, Any]:
    """Depth and age per job and state, workers, destinations in trouble, and the outage if there is one."""
    rows: dict[str, Any] = {"queue": queue.settings.name, "mode": queue.mode, "storage": None, "reachable": True}
    storage = queue.storage
    if storage is None:
        return rows
    rows["storage"] = storage.display_url
    try:
        storage.ping()  # which gives up sooner than what follows
        held, sessions = queue.places.depths(), storage.sessions()
        found = _in_trouble(storage)
        failures = _failures(queue.places)
    except StorageUnavailable as error:
        away = {"reachable": False, "what": error.what, "reason": str(error), "fallback": fallback(queue)}
        return {**rows, **away, **here(queue.places)}
    jobs, (depths, now) = numbers(held), held[0]
    live, sums = [session(record, now) for record in sessions], _sums(jobs)
    return {
        **rows,
        "paused": depths.paused,
        "pause": None if depths.pause is None else pause_of(depths.pause, now),
        "bypasses": [{"group": group or None, **pause_of(one, now)} for group, one in sorted(depths.bypasses.items())],
        **sums,
        "spool": numbers(held[1:]) if held[1:] else None,
        "workers": live,
        "load": load(live, sums["states"], found, within=queue.settings.ready_max_age),
        "worker_seen_age": None if depths.worker_seen is None else age(depths.worker_seen, now),
        "groups": found,
        "backlog": depths.backlog,
        "totals": depths.totals,
        "loss": None if depths.loss is None else _loss(depths.loss, now),
        "failures": failures,
        "bounds": [*_bounds(queue, jobs)],
        "fallbacks": queue.outage.fallbacks,
    }


def here(places: Places) -> dict[str, Any]:
    """What is known while the storage does not answer: ``spool``, and if that is not None, what lies there, which
    destinations are in trouble there, and who works from it."""
    held, found, live = places.depths_here(), list[dict[str, Any]](), list[dict[str, Any]]()
    if not held:
        return {"spool": None}
    rest = [place for place in places if place is not places.storage]
    for place in rest:
        with suppress(StorageUnavailable):
            found += _in_trouble(place)
            live += workers(place)
    jobs = numbers(held)
    return {"spool": jobs, **_sums(jobs), "failures": _failures(rest), "groups": found, "workers": live}


def _in_trouble(storage: Storage) -> list[dict[str, Any]]:
    return [row for row in groups(storage) if row["reason"] or row["breaker"] != "closed" or row["paused"]]


def _sums(jobs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "jobs": jobs,
        "states": {state.value: sum(job.get(state.value, 0) for job in jobs.values()) for state in STATE_ORDER},
        "oldest_age": max((job.get("oldest_age") or 0.0 for job in jobs.values()), default=0.0),
    }


def numbers(held: Iterable[tuple[Depths, int]]) -> dict[str, dict[str, Any]]:
    """By job: instances of each state, and the age of the oldest due one, over all places.

    :param held: what :meth:`pijobs.request.places.Places.depths` found.
    """
    jobs: dict[str, dict[str, Any]] = {}
    for depths, now in held:
        for (name, state), number in depths.counts.items():
            if number:
                row = jobs.setdefault(name, {})
                row[state.value] = row.get(state.value, 0) + number
        for name, due in depths.oldest_due.items():
            row = jobs.setdefault(name, {})
            row["oldest_age"] = max(age(due, now), row.get("oldest_age", 0.0))
    return dict(sorted(jobs.items()))


def _bounds(queue: Queue, jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each job that may not wait in any number, and whether its bound is reached."""
    for name in sorted({*queue.registry, *jobs}):
        bound = Bound.of(queue.settings.bounds, name)
        if bound is not None:
            row = jobs.get(name, {})
            waiting = sum(row.get(state.value, 0) for state in WAITING)
            reached = bound.reached(waiting, row.get("oldest_age", 0.0))
            yield {"job": name, "waiting": bound.waiting, "age": bound.age, "full": bound.full, "reached": reached}


def told_bound(row: Mapping[str, Any]) -> str:
    """A bound that is reached, in words."""
    what = {"direct": "run in the request", "refuse": "are refused", "drop": "take the place of less urgent ones"}
    return f"job {row['job']}: {row['reached']}; further calls {what[row['full']]}"


def _loss(loss: Loss, now: int) -> dict[str, Any]:
    """What a worker noticed: the storage was emptied, or went back to an earlier state."""
    return {"kind": loss.kind, "at": moment(loss.at), "age": age(loss.at, now)}


def pause_of(pause: Pause, now: int) -> dict[str, Any]:
    """Who paused, when and why."""
    since = None if pause.at is None else age(pause.at, now)
    return {"at": moment(pause.at), "age": since, "by": pause.by, "reason": pause.reason}


def told_pause(pause: Mapping[str, Any]) -> str:
    """In words, behind "paused"."""
    if pause["at"] is None:
        return "by an older release, which does not tell who did it"
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
        "emptied": "was emptied: what waited, dead letters and pauses are gone",
        "restored": "went back to an earlier state: what came after it is gone, what ended after it may run again",
    }
    return f"the storage {what[loss['kind']]}; noticed at {loss['at']}"


def fallback(queue: Queue) -> str | None:
    """The way that calls take while the storage is away: ``"spool"`` where one takes them and a worker of this machine
    works from it, ``"direct"``, or None."""
    for way in queue.settings.fallback:
        if way == "direct" or (queue.spool is not None and _has_worker(queue.spool) and takes(queue.spool)):
            return str(way)
    return None


def takes(storage: Storage) -> bool:
    """Whether it takes something new, by a trial: one that is full answers, too."""
    try:
        storage.try_out()
    except StorageUnavailable:
        return False
    return True


def _has_worker(spool: Storage) -> bool:
    try:
        return bool(spool.sessions())
    except StorageUnavailable:
        return False


def _failures(places: Iterable[Storage]) -> list[dict[str, Any]]:
    """The newest instances that ended without their effect, the newest first."""
    ended: list[Record] = []
    for place in places:
        with suppress(StorageUnavailable):
            ended += [one for state in (State.DEAD, State.EXPIRED) for one in place.page(state, limit=FAILURES).records]
    ended.sort(key=lambda record: record.ended or 0, reverse=True)
    return [
        {
            "id": record.id,
            "name": record.name,
            "group": record.group,
            "state": record.state.value,
            "ended": moment(record.ended),
            "reason": record.reason,
        }
        for record in ended[:FAILURES]
    ]


def sentences(answer: Mapping[str, Any]) -> Iterator[str]:
    """The overview for people."""
    paused = f" (paused {told_pause(answer['pause'])})" if answer.get("pause") else ""
    yield f"queue {answer['queue']} in {answer['storage']}{paused}"
    if not answer["reachable"]:
        ways = {"spool": "go to the spool of this machine", "direct": "run in the request", None: "are refused"}
        yield f"the storage {answer['what']}: {answer['reason']}"
        yield f"calls {ways[answer['fallback']]} meanwhile; what waited before stays where it is"
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
        waits = f"; the oldest is due since {row['oldest_age']:.1f} s" if row.get("oldest_age") else ""
        yield f"  {name}: {numbers or 'nothing'}{waits}"


def _of_failures(answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["failures"]:
        yield "the newest failures ('pijobs jobs show ID' tells more):"
    for row in answer["failures"]:
        yield f"  {row['ended']}  {row['id']}  {row['name']} {row['state']}: {row['reason'] or 'no reason is known'}"


def trouble(row: Mapping[str, Any], *, advice: bool = True) -> str:
    """What is wrong with a group, in words. :param advice: with the command that ends it."""
    ends = "; 'pijobs resume' ends that" if advice else ""
    said = [f"it is paused {told_pause(row['pause'])}{ends}"] if row["paused"] else []
    if row["failures"]:
        times = "once" if row["failures"] == 1 else f"{row['failures']} times in a row"
        said.append(f"its destination failed {times}: {row['reason'] or 'no reason is known'}")
    elif row["reason"]:
        said.append(row["reason"])
    if row["blocked_for"]:
        said.append(f"nothing of it starts for {row['blocked_for']:.1f} s")
    elif row["breaker"] == "half-open":
        said.append("the next instance tries it")
    return "; ".join([*said, f"{row['waiting']} waiting"])


def fingerprint(settings: Settings) -> Fingerprint | None:
    """What tells which database of definitions this process has; None where no plugin has definitions, and SQLAlchemy
    need not be imported."""
    records: Any = sys.modules.get("pijobs.definitions.records")
    found: Fingerprint | None = None if records is None else records.Fingerprint.of(settings)
    return found


def workers(storage: Storage) -> list[dict[str, Any]]:
    """The live sessions."""
    now = storage.now()
    return [session(record, now) for record in storage.sessions()]


def session(record: SessionRecord, now: int) -> dict[str, Any]:
    """One live session."""
    info = record.info
    return {
        "id": info.id,
        "host": info.host,
        "pid": info.pid,
        "version": info.version,
        "commit": info.commit,
        "worker_type": info.worker_type,
        "workers": info.workers,
        "keys": list(info.keys),
        "other_keys": {key: age(at, now) for key, at in info.other_keys.items()},
        "jobs": list(info.jobs),
        "definitions": info.definitions,
        "started": moment(info.started),
        "seen": moment(record.seen),
        "seen_age": age(record.seen, now),
        "running": list(record.running),
        "busy": len(record.running) if info.busy is None else info.busy / 1000,
        "took": info.took / 1000,
        "quiet": moment(info.quiet) if info.quiet else None,
        "resting": bool(info.resting),
    }


def groups(storage: Storage, *, after: str = "", limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The groups by name, with their limits and breakers: up to ``limit`` (None: all) of those behind ``after``."""
    now = storage.now()
    left = math.inf if limit is None else limit
    while left > 0:
        page = storage.groups(after=after, limit=int(min(GROUPS, left)))
        yield from (group(record, now) for record in page)
        if len(page) < GROUPS:
            return
        after, left = page[-1].name, left - len(page)


def group(record: GroupRecord, now: int) -> dict[str, Any]:
    """One group."""
    blocked = max(0, (record.blocked_until or 0) - now) / 1000
    policy = Policy.loads(record.policy)
    breaker = "closed" if not policy.opened else "open" if blocked else "half-open"
    ceiling = policy.ceiling(now)
    slowed = ceiling is not None and ceiling < DEFAULT_BOUND
    # A destination that nobody went to since may have forgotten that it was given too much.
    reason = policy.reason if policy.failures or slowed or ceiling is None else None
    return {
        "name": record.name,
        "running": record.running,
        "waiting": record.waiting,
        "limit": record.limit,
        "blocked_for": blocked,
        "paused": record.paused,
        "pause": None if record.pause is None else pause_of(record.pause, now),
        "breaker": breaker,
        "opened": policy.opened,
        "failures": policy.failures,
        "since": moment(policy.since) if policy.failures and policy.since else None,
        "slowed": slowed,
        "reason": reason,
    }


def moment(ms: int | None) -> str | None:
    """ISO 8601 in UTC, with milliseconds; its last moment for all that come later."""
    if ms is None:
        return None
    begin = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
    shown = begin + dt.timedelta(milliseconds=min(ms, LAST_MOMENT))
    return shown.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age(then: int, now: int) -> float:
    """Seconds, never negative."""
    return max(0.0, (now - then) / 1000)
