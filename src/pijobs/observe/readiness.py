"""Health: each check of :mod:`pijobs.observe.checks` by name, with what it found and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pijobs.base.clock import to_ms
from pijobs.base.redact import describe
from pijobs.errors import StorageFull, StorageUnavailable, StorageUnfit
from pijobs.jobs import State
from pijobs.observe import deployment_checks, switches
from pijobs.observe.checks import judged
from pijobs.observe.facts import age, groups
from pijobs.observe.sentences import LOSS_TOLD, told_bound, told_loss
from pijobs.observe.status import here, overview, takes
from pijobs.plugins.hookspecs import CheckResult
from pijobs.request.queue import Queue
from pijobs.settings import PREFIX
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record
from pijobs.storage.values import MAX_TOTALS

#: Seconds for which an instance may wait for a worker that can run it (a rolling upgrade; DESIGN, section 5).
HELD_GRACE = 600.0
#: Scheduled instances of a job that are looked at: on a page, and pages.
SAMPLE, SAMPLES, ALL_SAMPLES = 50, 10, 30
#: So many overdue instances are more than housekeeping leaves between two signs of life.
BACKLOG = 10_000


def readiness(queue: Queue, answer: Mapping[str, Any] | None = None) -> list[tuple[str, CheckResult]]:
    """Each check by name, for ``/healthz``, the commands and the pages.

    :param answer: of :func:`pijobs.observe.status.overview`, for who has asked for it just now.
    """
    found = [*_queue_checks(queue, answer), *_plugin_checks(queue, public=True)]
    return [(name, judged(name, result)) for name, result in found]


def takes_requests(queue: Queue) -> CheckResult:
    """Whether a server can enqueue, in one way or another, for ``/readyz``: a destination that is down, or a worker
    that is missing, is no reason to take its pages out of a load balancer."""
    if queue.storage is None or queue.mode != "queued":
        return _no_queue(queue)
    # Where a job can run in the request the outcome of a trial changes nothing, and a load balancer does not wait.
    answers = has_storage(queue, anew="direct" not in queue.settings.fallback)
    if answers.ok:
        return answers
    for way in queue.settings.fallback:
        if way == "direct":
            return CheckResult(True, f"{answers.message}; jobs run in the request")
        if queue.spool is not None and takes(queue.spool):
            return CheckResult(True, f"{answers.message}; jobs go to the spool")
    return answers


def has_storage(queue: Queue, *, anew: bool = True) -> CheckResult:
    """Whether the storage answers, for the ``/readyz`` of a worker.

    :param anew: see :meth:`pijobs.storage.trial.Fitness.require`.
    """
    assert queue.storage is not None
    answers = False
    try:
        queue.storage.ping()
        answers = True
        queue.fitness.require(anew=anew)
    except StorageUnfit as error:
        advice = "change what it names; docs/how-to/configure tells which servers and rights the queue needs"
        return CheckResult(False, f"the storage can't be used: {error}", advice)
    except StorageUnavailable as error:
        if answers:
            advice = "let it be written to, or name the server that is in PI_JOB_QUEUE_URL; look at its log"
            if isinstance(error, StorageFull):
                advice = "look at the check 'storage_full', and at its log; what it has goes on meanwhile"
            return CheckResult(False, f"{queue.storage.display_url} answers, but takes nothing new: {error}", advice)
        advice = "start the storage, or correct PI_JOB_QUEUE_URL; 'pijobs config check' tells more"
        return CheckResult(False, f"the storage {error.what}: {error}", advice)
    return CheckResult(True, f"{queue.storage.display_url} answers")


def _answers(storage: Storage) -> bool:
    try:
        storage.ping()
    except StorageUnavailable:
        return False
    return True


def configuration(queue: Queue) -> list[tuple[str, CheckResult]]:
    """The same checks for ``pijobs config check`` and for doctors of a plugin, where it is an admin who looks. They are
    asked before the first worker starts, so that no worker is a warning here.

    :raises StorageUnavailable: when the storage does not answer.
    """
    if queue.storage is not None and queue.mode == "queued":
        queue.storage.ping()
    found = [
        (name, judged(name, result))
        for name, result in (*_queue_checks(queue, None), *_plugin_checks(queue, public=False))
    ]
    return [
        (name, replace(result, ok=True, warning=True) if name == "worker" and not result.ok else result)
        for name, result in found
    ]


def _queue_checks(queue: Queue, answer: Mapping[str, Any] | None) -> Iterator[tuple[str, CheckResult]]:
    storage = queue.storage
    if storage is None or queue.mode != "queued":
        yield "queue", _no_queue(queue)
        return
    yield from deployment_checks.of_settings(queue)
    answers = has_storage(queue)
    found: list[tuple[str, CheckResult]] = []
    # What can be read is told, too, while it takes nothing new.
    if answers.ok or (_answers(storage) if answer is None else answer["reachable"]):
        try:
            answer = overview(queue) if answer is None else answer
            if not answer["reachable"]:
                raise StorageUnavailable(answer["reason"])
            found = [*deployment_checks.of_storage(queue, answer), *_state_checks(queue, storage, answer)]
        except StorageUnavailable as error:
            if answers.ok:
                answers = CheckResult(False, f"the storage {error.what}: {error}", "look at its log and its load")
        if not answers.ok:
            # Without it no worker can give a sign of life, and nobody has to start one.
            found = [(name, _after_storage(result) if name == "worker" else result) for name, result in found]
    yield "storage", answers
    yield from found or _here_checks(here(queue.places))
    for name, beside in (("spool", queue.spool), ("outbox", queue.transactions.outbox)):
        if beside is not None:
            yield name, _beside(queue, name, beside)


def _after_storage(result: CheckResult) -> CheckResult:
    return result if result.ok else replace(result, advice=f"look at the check 'storage' first; {result.advice}")


def _here_checks(answer: Mapping[str, Any]) -> Iterator[tuple[str, CheckResult]]:
    """What stands in the spool, while it is all that is known."""
    if answer["spool"] is not None:
        yield "breakers", _breakers(answer)
        yield "destinations", _destinations(answer)
        yield "failures", _failures(answer)


def _state_checks(queue: Queue, storage: Storage, answer: Mapping[str, Any]) -> Iterator[tuple[str, CheckResult]]:
    """What stands in the queue."""
    yield "oldest", _oldest(queue, storage, answer)
    yield "unreadable", _unreadable(storage, answer)
    yield "paused", switches.paused(answer)
    yield "forgotten", switches.forgotten(answer)
    yield "bypassed", switches.bypassed(answer)
    yield "breakers", _breakers(answer)
    yield "destinations", _destinations(answer)
    yield "failures", _failures(answer)
    yield "housekeeping", _housekeeping(answer)
    yield "loss", _loss(answer)
    yield "totals", _totals(answer)
    yield "bounds", _bounds(answer)


def _plugin_checks(queue: Queue, *, public: bool) -> Iterator[tuple[str, CheckResult]]:
    for plugin, found in queue.plugins.call("register_checks", queue=queue):
        for check in found:
            yield f"{plugin}.{check.name}", _guarded(check.run, public)


def _no_queue(queue: Queue) -> CheckResult:
    if queue.mode == "immediate":
        return CheckResult(True, "immediate mode; jobs run in the request")
    chosen = queue.settings.queue_class
    if not chosen:
        return CheckResult(True, f"the queue is off ({PREFIX}CLASS is empty); every job runs in the request")
    if queue.foreign:
        return CheckResult(
            True,
            f"{chosen} takes the jobs; nothing is known of its workers",
            "look at them by its own means",
            warning=True,
        )
    message = f"{chosen} could not be imported: there is no queue, jobs run in the request"
    return CheckResult(True, message, f"correct {PREFIX}CLASS; the log of the server tells why", warning=True)


def _guarded(run: Callable[[], CheckResult], public: bool) -> CheckResult:
    try:
        return run()
    except Exception as error:
        # Anybody may ask for readiness; what an error says is for the admin alone.
        shown = f" ({type(error).__name__})" if public else f": {describe(error)}"
        return CheckResult(False, f"the check itself failed{shown}", "see the log, and tell the plugin's author")


def _oldest(queue: Queue, storage: Storage, answer: Mapping[str, Any]) -> CheckResult:
    limit = queue.settings.ready_max_age
    waits = answer["oldest_age"]
    if waits > limit and not answer["paused"]:
        waits = _held_by_nobody(storage, waits, answer["groups"])
    if waits <= limit or answer["paused"]:
        return CheckResult(True, f"the oldest due instance that nobody holds back waits for {waits:.1f} s")
    advice = "look at 'pijobs status': too few workers, or a job that hangs"
    return CheckResult(False, f"the oldest due instance waits for {waits:.0f} s, more than {limit:g} s", advice)


def _held_by_nobody(storage: Storage, waits: float, rows: Iterable[Mapping[str, Any]]) -> float:
    """Seconds that the oldest instance waits without a pause or breaker: these have checks that name the cause.

    :param waits: seconds that the oldest one waits, whatever holds it back.
    """
    held = {row["name"] for row in rows if row["paused"] or row["breaker"] != "closed"}
    if not held:
        return waits
    due = storage.oldest_due(without=held)
    return 0.0 if due is None else age(due, storage.now())


def _unreadable(storage: Storage, answer: Mapping[str, Any]) -> CheckResult:
    """Whether something was given back again and again, because no worker knows its job, key, version or destination.
    Looks at the newest :data:`SAMPLES` pages of what is scheduled of each job; of many jobs at less of each."""
    now, stuck = storage.now(), dict[str, int]()
    names = [name for name, row in answer["jobs"].items() if row.get(State.SCHEDULED.value)]
    for name in names:
        for record in _newest(storage, name, max(1, min(SAMPLES, ALL_SAMPLES // len(names)))):
            last = json.loads(record.history[-1]) if record.history else {}
            if last.get("event") == "held" and now - last["at"] >= to_ms(HELD_GRACE):
                stuck[record.reason or name] = stuck.get(record.reason or name, 0) + 1
    if not stuck:
        return CheckResult(True, f"nothing waits for {HELD_GRACE / 60:.0f} minutes for a worker that can run it")
    advice = "start a worker with the keys, plugins and definitions of the server; 'pijobs jobs list --state scheduled'"
    told = "; ".join(f"{number} because of: {reason}" for reason, number in stuck.items())
    return CheckResult(False, f"no worker can run what waits for {HELD_GRACE / 60:.0f} minutes: {told}", advice)


def _newest(storage: Storage, name: str, pages: int) -> Iterator[Record]:
    cursor = None
    for _ in range(pages):
        page = storage.page(State.SCHEDULED, name=name, cursor=cursor, limit=SAMPLE)
        yield from page.records
        cursor = page.cursor
        if cursor is None:
            return


def _breakers(answer: Mapping[str, Any]) -> CheckResult:
    """Red when a probe failed, too, and somebody waits: a breaker that opened once may close in a moment."""
    down = [
        f"{row['name']} ({row['reason'] or 'no reason is known'})"
        for row in answer["groups"]
        if row["opened"] > 1 and (row["waiting"] or row["running"])
    ]
    if not down:
        return CheckResult(True, "no destination is down for long while instances wait for it")
    advice = "look at the destination; 'pijobs groups' tells when it is tried again"
    return CheckResult(False, f"down for more than one try, with instances waiting: {', '.join(down)}", advice)


def _destinations(answer: Mapping[str, Any]) -> CheckResult:
    found = [f"{row['name']}: {row['reason']}" for row in answer["groups"] if row["reason"] and not row["failures"]]
    if not found:
        return CheckResult(True, "no destination works with trouble")
    return CheckResult(True, "; ".join(found), "look at the destination", warning=True)


def _bounds(answer: Mapping[str, Any]) -> CheckResult:
    found = [told_bound(row) for row in answer["bounds"] if row["reached"]]
    if not found:
        return CheckResult(True, "no job has reached the bound of what may wait")
    return CheckResult(
        False, "; ".join(found), "start more workers, slow down who enqueues, or raise PI_JOB_QUEUE_BOUNDS"
    )


def _failures(answer: Mapping[str, Any]) -> CheckResult:
    """A warning: what failed for good is news for people, and no reason to take no more jobs. The reasons are not told
    here, where anybody may look."""
    counted = [f"{number} {state}" for state in ("dead", "expired") if (number := answer["states"][state])]
    if not counted:
        return CheckResult(True, "nothing that is kept failed for good")
    advice = "'pijobs status' tells why; retry or remove dead letters by 'pijobs jobs'"
    return CheckResult(True, f"failed for good: {', '.join(counted)}", advice, warning=True)


def _loss(answer: Mapping[str, Any]) -> CheckResult:
    """Red for a day: nobody can bring back what is gone, but somebody must know."""
    loss = answer["loss"]
    if loss is None or loss["age"] >= LOSS_TOLD:
        return CheckResult(True, "the storage keeps what it was given, as far as live workers know")
    advice = "look at what restored or emptied it, set pauses again, and enqueue again what has to be"
    return CheckResult(False, told_loss(loss), advice)


def _housekeeping(answer: Mapping[str, Any]) -> CheckResult:
    backlog = answer["backlog"]
    if backlog < BACKLOG:
        return CheckResult(True, f"{backlog} instances wait to be removed")
    advice = "start more workers, whose signs of life keep house; look at the load of the storage"
    return CheckResult(True, f"housekeeping is late: {backlog} instances wait to be removed", advice, warning=True)


def _totals(answer: Mapping[str, Any]) -> CheckResult:
    number = answer["totals"]
    if number < MAX_TOTALS:
        return CheckResult(True, f"{number} of {MAX_TOTALS} series are in use")
    advice = "see pijobs_totals_left_out_total; a job has too many groups, or measures too many different labels"
    return CheckResult(True, f"{number} series are in use; new ones are not counted", advice, warning=True)


#: Of each place beside the storage: what to do when it does not answer, and when something waits there for long.
_BESIDE = {
    "spool": (
        "correct PI_JOB_QUEUE_SPOOL, or its folder",
        "start a worker on this machine; it works from the spool, too",
    ),
    "outbox": (
        "look at the database of the application, SQLALCHEMY_DATABASE_URI",
        "start a worker with the app (--app), which moves it to the storage; look at the check 'storage'",
    ),
}


def _beside(queue: Queue, name: str, beside: Storage) -> CheckResult:
    limit = queue.settings.ready_max_age
    broken, late = _BESIDE[name]
    try:
        depths, now = beside.depths(), beside.now()
        waits = max((age(due, now) for due in depths.oldest_due.values()), default=0.0)
        if waits > limit:
            waits = _held_by_nobody(beside, waits, groups(beside))
        there = any(place is beside for place in queue.places)  # else nobody has made its file
        room = deployment_checks.full(beside.diagnose() if there else {}, name)
    except StorageUnavailable as error:
        return CheckResult(False, f"the {name} does not answer: {error}", broken)
    if not room.ok:
        return room
    if waits <= limit:
        return CheckResult(True, f"{beside.display_url} answers")
    return CheckResult(False, f"an instance in the {name} waits for {waits:.0f} s, more than {limit:g} s", late)
