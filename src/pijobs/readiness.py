"""Readiness: each check by name, with what it found and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pijobs import traps
from pijobs.errors import StorageUnavailable
from pijobs.groups import Policy
from pijobs.hookspecs import CheckResult
from pijobs.queue import Queue
from pijobs.status import age, overview
from pijobs.storage.contract import GroupRecord, Storage


def readiness(queue: Queue) -> list[tuple[str, CheckResult]]:
    """Each check by name; all must be ok for a server or worker to be ready."""
    return [*_queue_checks(queue), *_plugin_checks(queue)]


def _queue_checks(queue: Queue) -> Iterator[tuple[str, CheckResult]]:
    storage = queue.storage
    if storage is None or queue.mode != "queued":
        yield "queue", CheckResult(True, _without_workers(queue))
        return
    try:
        storage.ping()
        answer, found = overview(queue), storage.groups()
        outage = answer.get("reason")
    except StorageUnavailable as error:
        outage = str(error)
    if outage:
        advice = "start the storage, or correct PI_JOB_QUEUE_URL; 'pijobs config check' tells more"
        yield "storage", CheckResult(False, f"the storage does not answer: {outage}", advice)
    else:
        yield "storage", CheckResult(True, f"{storage.display_url} answers")
        yield "worker", _worker(answer)
        yield "keys", _keys(queue, answer)
        yield "oldest", _oldest(queue, answer)
        yield "breakers", _breakers(found)
    if queue.spool is not None:
        yield "spool", _spool(queue, queue.spool)


def _plugin_checks(queue: Queue) -> Iterator[tuple[str, CheckResult]]:
    for plugin, found in queue.plugins.call("register_checks", queue=queue):
        for check in found:
            yield f"{plugin}.{check.name}", _guarded(check.run)


def _without_workers(queue: Queue) -> str:
    if queue.mode == "immediate":
        return "immediate mode; jobs run in the request"
    chosen = queue.option("CLASS")
    if chosen:
        return f"{chosen} takes the jobs, or could not be imported (see the log); nothing is known of its workers"
    return "the queue is off; jobs run in the request"


def _guarded(run: Any) -> CheckResult:
    try:
        result: CheckResult = run()
        return result
    except Exception as error:
        return CheckResult(False, f"the check itself failed ({type(error).__name__})", "see the log of the server")


def _oldest(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    limit = queue.option("READY_MAX_AGE")
    waits = answer["oldest_age"]
    if waits <= limit or answer["paused"]:
        return CheckResult(True, f"the oldest due instance waits for {waits:.1f} s")
    advice = "look at 'pijobs status': too few workers, or a job that hangs"
    return CheckResult(False, f"the oldest due instance waits for {waits:.0f} s, more than {limit:g} s", advice)


def _breakers(found: Iterable[GroupRecord]) -> CheckResult:
    """Red when a probe failed, too, and somebody waits: a breaker that opened once may close in a moment."""
    down = [
        record.name for record in found if Policy.loads(record.policy).opened > 1 and (record.waiting or record.running)
    ]
    if not down:
        return CheckResult(True, "no destination is down for long while instances wait for it")
    advice = "look at the destination; 'pijobs groups' tells when it is tried again"
    return CheckResult(False, f"down for more than one try, with instances waiting: {', '.join(down)}", advice)


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
