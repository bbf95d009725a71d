"""One answer to "what is going on?", for commands, routes, readiness, metrics and pages.

Everything here is made of plain values that JSON knows, without bodies; times are ISO 8601 in UTC, ages are seconds on
the storage's clock.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pijobs.errors import StorageUnavailable
from pijobs.jobs import WAITING, State
from pijobs.observe.facts import STATE_ORDER, age, groups_in_trouble, moment, pause_of, session, workers
from pijobs.observe.load import load
from pijobs.request.bounds import Bound
from pijobs.request.places import Places
from pijobs.request.queue import Queue
from pijobs.settings import Settings
from pijobs.storage.contract import Storage
from pijobs.storage.records import Depths, Loss, Record

if TYPE_CHECKING:
    from pijobs.definitions.records import Fingerprint


#: How many of the newest failures the overview contains.
FAILURES = 5


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
        found = [*groups_in_trouble(storage)]
        failures = _failures(queue.places)
    except StorageUnavailable as error:
        away = {"reachable": False, "what": error.what, "reason": str(error), "fallback": fallback(queue)}
        return {**rows, **away, **here(queue.places)}
    jobs, (depths, now) = numbers(held), held[0]
    live, sums = [session(record, now) for record in sessions], _sums(jobs)
    return {
        **rows,
        **_of_queue(depths, now),
        **sums,
        "spool": numbers(held[1:]) if held[1:] else None,
        "workers": live,
        "load": load(live, sums["states"], found, within=queue.settings.ready_max_age),
        "groups": found,
        "failures": failures,
        "bounds": [*_bounds(queue, jobs)],
        "fallbacks": queue.outage.fallbacks,
    }


def _of_queue(depths: Depths, now: int) -> dict[str, Any]:
    return {
        "paused": depths.paused,
        "pause": None if depths.pause is None else pause_of(depths.pause, now),
        "bypasses": [{"group": group or None, **pause_of(one, now)} for group, one in sorted(depths.bypasses.items())],
        "worker_seen_age": None if depths.worker_seen is None else age(depths.worker_seen, now),
        "backlog": depths.backlog,
        "totals": depths.totals,
        "loss": None if depths.loss is None else _loss(depths.loss, now),
    }


def here(places: Places) -> dict[str, Any]:
    """What is known while the storage does not answer: ``spool``, and if that is not None, its instances, its
    destinations in trouble, and its workers."""
    held, found, live = places.depths_here(), list[dict[str, Any]](), list[dict[str, Any]]()
    if not held:
        return {"spool": None}
    rest = [place for place in places if place is not places.storage]
    for place in rest:
        with suppress(StorageUnavailable):
            found += groups_in_trouble(place)
            live += workers(place)
    jobs = numbers(held)
    return {"spool": jobs, **_sums(jobs), "failures": _failures(rest), "groups": found, "workers": live}


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
    """Each job with a limit of waiting instances, and whether it is reached."""
    for name in sorted({*queue.registry, *jobs}):
        bound = Bound.of(queue.settings.bounds, name)
        if bound is not None:
            row = jobs.get(name, {})
            waiting = sum(row.get(state.value, 0) for state in WAITING)
            reached = bound.reached(waiting, row.get("oldest_age", 0.0))
            yield {"job": name, "waiting": bound.waiting, "age": bound.age, "full": bound.full, "reached": reached}


def _loss(loss: Loss, now: int) -> dict[str, Any]:
    """What a worker noticed: the storage was emptied, or went back to an earlier state."""
    return {"kind": loss.kind, "at": moment(loss.at), "age": age(loss.at, now)}


def fallback(queue: Queue) -> str | None:
    """Where calls go while the storage is away: ``"spool"`` if there is one with a worker on this machine,
    ``"direct"``, or None."""
    for way in queue.settings.fallback:
        if way == "direct" or (queue.spool is not None and _has_worker(queue.spool) and takes(queue.spool)):
            return str(way)
    return None


def takes(storage: Storage) -> bool:
    """Whether it accepts new instances, found out by a trial: a full storage answers, too."""
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


def fingerprint(settings: Settings) -> Fingerprint | None:
    """The fingerprint of this process's database of definitions; None if no plugin has definitions, so that SQLAlchemy
    need not be imported."""
    records: Any = sys.modules.get("pijobs.definitions.records")
    found: Fingerprint | None = None if records is None else records.Fingerprint.of(settings)
    return found
