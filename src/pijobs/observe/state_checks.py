"""Checks of the state of the queue, the spool and the outbox."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pijobs.base.clock import to_ms
from pijobs.base.told import Told
from pijobs.errors import StorageUnavailable
from pijobs.jobs import State
from pijobs.observe import deployment_checks
from pijobs.observe.facts import age, groups_in_trouble
from pijobs.observe.sentences import LOSS_TOLD, NO_REASON, told_bound, told_loss
from pijobs.plugins.hookspecs import CheckResult
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record
from pijobs.storage.values import MAX_TOTALS

#: Seconds for which an instance may wait for a worker that can run it (a rolling upgrade; DESIGN, section 5).
HELD_GRACE = 600.0

#: Scheduled instances of a job that are looked at: on a page, and pages.
SAMPLE, SAMPLES, ALL_SAMPLES = 50, 10, 30

#: More overdue instances than housekeeping leaves between two signs of life.
BACKLOG = 10_000


def oldest(queue: Queue, storage: Storage, answer: Mapping[str, Any]) -> CheckResult:
    limit = queue.settings.ready_max_age
    waits = answer["oldest_age"]
    if waits > limit and not answer["paused"]:
        waits = _held_by_nobody(storage, waits, answer["groups"])
    if waits <= limit or answer["paused"]:
        said = Told("the oldest due instance that nothing defers has waited for {waits:.1f} s", waits=waits)
        return CheckResult(True, said)
    said = Told("the oldest due instance has waited for {waits:.0f} s, more than {limit:g} s", waits=waits, limit=limit)
    return CheckResult(False, said, Told("see 'pijobs status': there are too few workers, or a job hangs"))


def _held_by_nobody(storage: Storage, waits: float, rows: Iterable[Mapping[str, Any]]) -> float:
    """Seconds that the oldest instance waits without a pause or breaker, because these have their own checks.

    :param waits: seconds that the oldest one waits, whatever holds it back.
    """
    held = {row["name"] for row in rows if row["paused"] or row["breaker"] != "closed"}
    if not held:
        return waits
    due = storage.oldest_due(without=held)
    return 0.0 if due is None else age(due, storage.now())


def unreadable(storage: Storage, answer: Mapping[str, Any]) -> CheckResult:
    """Whether instances are returned again and again, because no worker knows their job, key, version or destination.
    Reads the newest :data:`SAMPLES` pages of scheduled instances of each job; fewer of each if there are many jobs."""
    now, stuck = storage.now(), dict[str, int]()
    names = [name for name, row in answer["jobs"].items() if row.get(State.SCHEDULED.value)]
    for name in names:
        for record in _newest(storage, name, max(1, min(SAMPLES, ALL_SAMPLES // len(names)))):
            last = json.loads(record.history[-1]) if record.history else {}
            if last.get("event") == "held" and now - last["at"] >= to_ms(HELD_GRACE):
                stuck[record.reason or name] = stuck.get(record.reason or name, 0) + 1
    time = HELD_GRACE / 60
    if not stuck:
        said = Told("nothing waits for {time:.0f} minutes for a worker that can run it", time=time)
        return CheckResult(True, said)
    advice = Told(
        "start a worker with the keys, plugins and definitions of the server; 'pijobs jobs list --state scheduled'"
    )
    found = (Told("{number} because of: {reason}", number=number, reason=reason) for reason, number in stuck.items())
    said = Told(
        "no worker can run what waits for {time:.0f} minutes: {found}", time=time, found=Told.joined("; ", found)
    )
    return CheckResult(False, said, advice)


def _newest(storage: Storage, name: str, pages: int) -> Iterator[Record]:
    cursor = None
    for _ in range(pages):
        page = storage.page(State.SCHEDULED, name=name, cursor=cursor, limit=SAMPLE)
        yield from page.records
        cursor = page.cursor
        if cursor is None:
            return


def breakers(answer: Mapping[str, Any]) -> CheckResult:
    """Red if a probe failed, too, and instances wait: a breaker that opened once may close soon."""
    down = [
        Told("{name} ({reason})", name=row["name"], reason=row["reason"] or NO_REASON)
        for row in answer["groups"]
        if row["opened"] > 1 and (row["waiting"] or row["running"])
    ]
    if not down:
        return CheckResult(True, Told("no destination is down for long while instances wait for it"))
    said = Told("failed more than one try, and instances wait: {down}", down=Told.joined(", ", down))
    return CheckResult(False, said, Told("check the destination; 'pijobs groups' says when it is tried again"))


def destinations(answer: Mapping[str, Any]) -> CheckResult:
    found = [f"{row['name']}: {row['reason']}" for row in answer["groups"] if row["reason"] and not row["failures"]]
    if not found:
        return CheckResult(True, Told("no destination that works has a problem"))
    return CheckResult(True, Told.joined("; ", found), Told("check the destination"), warning=True)


def bounds(answer: Mapping[str, Any]) -> CheckResult:
    found = [told_bound(row) for row in answer["bounds"] if row["reached"]]
    if not found:
        return CheckResult(True, Told("no job has reached its limit of waiting instances"))
    advice = Told("start more workers, enqueue less, or raise PI_JOB_QUEUE_BOUNDS")
    return CheckResult(False, Told.joined("; ", found), advice)


def failures(answer: Mapping[str, Any]) -> CheckResult:
    """A warning only: failed instances are no reason to accept no more jobs. The reasons are not shown, because this
    check is public."""
    counted = [
        Told("{number} {state}", number=number, state=Told(state))
        for state in (State.DEAD.value, State.EXPIRED.value)
        if (number := answer["states"][state])
    ]
    if not counted:
        return CheckResult(True, Told("no stored instance failed for good"))
    advice = Told("'pijobs status' says why; retry or remove dead letters with 'pijobs jobs'")
    return CheckResult(
        True, Told("failed for good: {counted}", counted=Told.joined(", ", counted)), advice, warning=True
    )


def loss(answer: Mapping[str, Any]) -> CheckResult:
    """Red for a day: lost data can't be recovered, but somebody must know."""
    loss = answer["loss"]
    if loss is None or loss["age"] >= LOSS_TOLD:
        return CheckResult(True, Told("live workers noticed no loss in the storage"))
    advice = Told("find out what restored or emptied it, set pauses again, and enqueue lost jobs again if needed")
    return CheckResult(False, told_loss(loss), advice)


def housekeeping(answer: Mapping[str, Any]) -> CheckResult:
    backlog = answer["backlog"]
    if backlog < BACKLOG:
        return CheckResult(True, Told("{number} instances wait to be removed", number=backlog))
    said = Told("housekeeping is late: {number} instances wait to be removed", number=backlog)
    advice = Told("start more workers, because workers remove old instances; check the load of the storage")
    return CheckResult(True, said, advice, warning=True)


def totals(answer: Mapping[str, Any]) -> CheckResult:
    number = answer["totals"]
    if number < MAX_TOTALS:
        return CheckResult(True, Told("{number} of {most} series are in use", number=number, most=MAX_TOTALS))
    said = Told("{number} series are in use; new ones are not counted", number=number)
    advice = Told("see pijobs_totals_left_out_total; a job has too many groups, or measures too many different labels")
    return CheckResult(True, said, advice, warning=True)


#: Each place beside the storage: what to do if it does not answer, and if an instance waits there too long.
_BESIDE = {
    "spool": (
        Told("spool"),
        Told("correct PI_JOB_QUEUE_SPOOL, or its folder"),
        Told("start a worker on this machine; it works from the spool, too"),
    ),
    "outbox": (
        Told("outbox"),
        Told("check the database of the application, SQLALCHEMY_DATABASE_URI"),
        Told("start a worker with the app (--app), which moves it to the storage; see the check 'storage'"),
    ),
}


def beside(queue: Queue, name: str, beside: Storage) -> CheckResult:
    limit = queue.settings.ready_max_age
    named, broken, late = _BESIDE[name]
    try:
        depths, now = beside.depths(), beside.now()
        waits = max((age(due, now) for due in depths.oldest_due.values()), default=0.0)
        if waits > limit:
            waits = _held_by_nobody(beside, waits, groups_in_trouble(beside))
        there = any(place is beside for place in queue.places)  # otherwise nobody has created its file
        room = deployment_checks.full(beside.diagnose() if there else {}, named)
    except StorageUnavailable as error:
        return CheckResult(False, Told("the {place} does not answer: {error}", place=named, error=error), broken)
    if not room.ok:
        return room
    if waits <= limit:
        return CheckResult(True, Told("{url} answers", url=beside.display_url))
    said = Told(
        "an instance in the {place} waits for {waits:.0f} s, more than {limit:g} s",
        place=named,
        waits=waits,
        limit=limit,
    )
    return CheckResult(False, said, late)
