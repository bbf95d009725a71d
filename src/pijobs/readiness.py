"""Readiness: each check by name, with what it found and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pijobs import traps
from pijobs.errors import StorageUnavailable, StorageUnfit
from pijobs.hookspecs import CheckResult
from pijobs.queue import Queue
from pijobs.redact import describe
from pijobs.status import LOSS_TOLD, age, overview, told_loss
from pijobs.storage.contract import MAX_TOTALS, Storage

#: So many overdue instances are more than housekeeping leaves between two signs of life.
BACKLOG = 10_000
#: Seconds for which readiness is red after a storage lost what it had acknowledged.
LOSS_RED = 3600.0


def readiness(queue: Queue, answer: Mapping[str, Any] | None = None) -> list[tuple[str, CheckResult]]:
    """Each check by name; all must be ok for a server or worker to be ready.

    :param answer: of :func:`pijobs.status.overview`, for who has asked for it just now.
    """
    return [*_queue_checks(queue, answer), *_plugin_checks(queue, public=True)]


def configuration(queue: Queue) -> list[tuple[str, CheckResult]]:
    """The checks of readiness that tell of the configuration, for ``pijobs config check``: it is asked before the first
    worker starts, so that no worker is a warning there.

    :raises StorageUnavailable: when the storage does not answer.
    """
    if queue.storage is None:
        return [*_plugin_checks(queue, public=False)]
    if queue.mode != "queued":
        return [*traps.of_settings(queue), *_plugin_checks(queue, public=False)]
    queue.storage.ping()
    found = [
        *traps.of_settings(queue),
        *([] if queue.spool is None else [("spool", _spool(queue, queue.spool))]),
        *traps.of_storage(queue, overview(queue)),
        *_plugin_checks(queue, public=False),
    ]
    return [
        (name, replace(result, ok=True, warning=True) if name == "worker" and not result.ok else result)
        for name, result in found
    ]


def _queue_checks(queue: Queue, answer: Mapping[str, Any] | None) -> Iterator[tuple[str, CheckResult]]:
    storage = queue.storage
    if storage is None or queue.mode != "queued":
        yield "queue", CheckResult(True, _without_workers(queue))
        return
    yield from traps.of_settings(queue)
    try:
        queue.fitness.require()
        if answer is None:
            storage.ping()
            answer = overview(queue)
        if not answer["reachable"]:
            raise StorageUnavailable(answer["reason"])
        found = [*traps.of_storage(queue, answer)]
    except StorageUnfit as error:
        advice = "change what it names; docs/how-to/configure tells which servers and rights the queue needs"
        yield "storage", CheckResult(False, f"the storage can't be used: {error}", advice)
    except StorageUnavailable as error:
        advice = "start the storage, or correct PI_JOB_QUEUE_URL; 'pijobs config check' tells more"
        yield "storage", CheckResult(False, f"the storage does not answer: {error}", advice)
    else:
        yield "storage", CheckResult(True, f"{storage.display_url} answers")
        yield from found
        yield "oldest", _oldest(queue, answer)
        yield "breakers", _breakers(answer)
        yield "failures", _failures(answer)
        yield "housekeeping", _housekeeping(answer)
        yield "loss", _loss(answer)
        yield "totals", _totals(answer)
    if queue.spool is not None:
        yield "spool", _spool(queue, queue.spool)


def _plugin_checks(queue: Queue, *, public: bool) -> Iterator[tuple[str, CheckResult]]:
    for plugin, found in queue.plugins.call("register_checks", queue=queue):
        for check in found:
            yield f"{plugin}.{check.name}", _guarded(check.run, public)


def _without_workers(queue: Queue) -> str:
    if queue.mode == "immediate":
        return "immediate mode; jobs run in the request"
    chosen = queue.option("CLASS")
    if chosen:
        return f"{chosen} takes the jobs, or could not be imported (see the log); nothing is known of its workers"
    return "the queue is off; jobs run in the request"


def _guarded(run: Callable[[], CheckResult], public: bool) -> CheckResult:
    try:
        return run()
    except Exception as error:
        # Anybody may ask for readiness; what an error says is for the admin alone.
        shown = f" ({type(error).__name__})" if public else f": {describe(error)}"
        return CheckResult(False, f"the check itself failed{shown}", "see the log, and tell the plugin's author")


def _oldest(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    limit = queue.option("READY_MAX_AGE")
    waits = answer["oldest_age"]
    if waits <= limit or answer["paused"]:
        return CheckResult(True, f"the oldest due instance waits for {waits:.1f} s")
    advice = "look at 'pijobs status': too few workers, or a job that hangs"
    return CheckResult(False, f"the oldest due instance waits for {waits:.0f} s, more than {limit:g} s", advice)


def _breakers(answer: Mapping[str, Any]) -> CheckResult:
    """Red when a probe failed, too, and somebody waits: a breaker that opened once may close in a moment."""
    down = [
        f"{row['name']} ({row['reason'] or 'no reason is known'})"
        for row in answer["groups"]
        if row["opened"] > 1 and (row["waiting"] or row["running"])
    ]
    if not down:
        warnings = [
            f"{row['name']}: {row['reason']}" for row in answer["groups"] if row["reason"] and not row["failures"]
        ]
        if warnings:
            return CheckResult(True, "; ".join(warnings), "look at the destination", warning=True)
        return CheckResult(True, "no destination is down for long while instances wait for it")
    advice = "look at the destination; 'pijobs groups' tells when it is tried again"
    return CheckResult(False, f"down for more than one try, with instances waiting: {', '.join(down)}", advice)


def _failures(answer: Mapping[str, Any]) -> CheckResult:
    """A warning: what failed for good is news for people, and no reason to take no more jobs. The reasons are not told
    here, where anybody may look."""
    counted = [f"{number} {state}" for state in ("dead", "expired") if (number := answer["states"][state])]
    if not counted:
        return CheckResult(True, "nothing that is kept failed for good")
    advice = "'pijobs status' tells why; retry or remove dead letters by 'pijobs jobs'"
    return CheckResult(True, f"failed for good: {', '.join(counted)}", advice, warning=True)


def _loss(answer: Mapping[str, Any]) -> CheckResult:
    """Red for an hour, a warning for a day: nobody can bring back what is gone, but somebody must know."""
    loss = answer["loss"]
    if loss is None or loss["age"] >= LOSS_TOLD:
        return CheckResult(True, "the storage keeps what it was given, as far as live workers know")
    advice = "look at what restored or emptied it, set pauses again, and enqueue again what has to be"
    red = loss["age"] < LOSS_RED
    return CheckResult(not red, told_loss(loss), advice, warning=not red, alarm=not red)


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


def _spool(queue: Queue, spool: Storage) -> CheckResult:
    limit = queue.option("READY_MAX_AGE")
    try:
        depths, now = spool.depths(), spool.now()
    except StorageUnavailable as error:
        return CheckResult(False, f"the spool does not answer: {error}", "correct PI_JOB_QUEUE_SPOOL, or its folder")
    waits = max((age(due, now) for due in depths.oldest_due.values()), default=0.0)
    if waits <= limit:
        return CheckResult(True, f"{spool.display_url} answers")
    advice = "start a worker on this machine; it works from the spool, too"
    return CheckResult(False, f"an instance in the spool waits for {waits:.0f} s, more than {limit:g} s", advice)
