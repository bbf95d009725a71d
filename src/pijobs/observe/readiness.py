"""Health: each check of :mod:`pijobs.observe.checks` by name, with what it found and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pijobs.base.redact import describe
from pijobs.base.told import Told
from pijobs.errors import StorageFull, StorageUnavailable, StorageUnfit
from pijobs.observe import deployment_checks, state_checks, switches
from pijobs.observe.checks import judged
from pijobs.observe.status import here, overview, takes
from pijobs.plugins.hookspecs import CheckResult
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage


def readiness(queue: Queue, answer: Mapping[str, Any] | None = None) -> list[tuple[str, CheckResult]]:
    """Each check by name, for ``/healthz``, the commands and the pages.

    :param answer: of :func:`pijobs.observe.status.overview`, if the caller already has it.
    """
    found = [*_queue_checks(queue, answer), *_plugin_checks(queue, public=True)]
    return [(name, judged(name, result)) for name, result in found]


def takes_requests(queue: Queue) -> CheckResult:
    """Whether a server can enqueue or run jobs, for ``/readyz``: a destination that is down, or a missing worker, is no
    reason to take its pages out of a load balancer."""
    if queue.storage is None or queue.mode != "queued":
        return _no_queue(queue)
    # If a job can run in the request, the outcome of a trial changes nothing, and a load balancer does not wait for it.
    answers = has_storage(queue, anew="direct" not in queue.settings.fallback)
    if answers.ok:
        return answers
    for way in queue.settings.fallback:
        if way == "direct":
            return CheckResult(True, Told("{why}; jobs run in the request", why=answers.message))
        if queue.spool is not None and takes(queue.spool):
            return CheckResult(True, Told("{why}; jobs go to the spool", why=answers.message))
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
        advice = Told("correct what it names; docs/how-to/configure says which servers and rights the queue needs")
        return CheckResult(False, Told("the storage can't be used: {error}", error=error), advice)
    except StorageUnavailable as error:
        if answers:
            said = Told("{url} answers, but accepts nothing new: {error}", url=queue.storage.display_url, error=error)
            advice = Told("make it writable, or name a writable server in PI_JOB_QUEUE_URL; see its log")
            if isinstance(error, StorageFull):
                advice = Told("see the check 'storage_full' and the storage's log; stored jobs still run meanwhile")
            return CheckResult(False, said, advice)
        return CheckResult(
            False, _away(error), Told("start the storage, or correct PI_JOB_QUEUE_URL; 'pijobs config check' says more")
        )
    return CheckResult(True, Told("{url} answers", url=queue.storage.display_url))


def _away(error: StorageUnavailable) -> Told:
    return Told("the storage {what}: {error}", what=Told(error.what), error=error)


def _answers(storage: Storage) -> bool:
    try:
        storage.ping()
    except StorageUnavailable:
        return False
    return True


def configuration(queue: Queue) -> list[tuple[str, CheckResult]]:
    """The same checks for ``pijobs config check`` and for doctors of a plugin, which admins use. They run before the
    first worker starts, so a missing worker is only a warning here.

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
    # A storage that accepts nothing new can still be read, so the other checks run, too.
    if answers.ok or (_answers(storage) if answer is None else answer["reachable"]):
        try:
            answer = overview(queue) if answer is None else answer
            if not answer["reachable"]:
                raise StorageUnavailable(answer["reason"])
            found = [*deployment_checks.of_storage(queue, answer), *_state_checks(queue, storage, answer)]
        except StorageUnavailable as error:
            if answers.ok:
                answers = CheckResult(False, _away(error), Told("check its log and its load"))
        if not answers.ok:
            # Without a storage no worker can give a sign of life, so the advice is not to start one.
            found = [(name, _after_storage(result) if name == "worker" else result) for name, result in found]
    yield "storage", answers
    yield from found or _here_checks(here(queue.places))
    for name, place in (("spool", queue.spool), ("outbox", queue.transactions.outbox)):
        if place is not None:
            yield name, state_checks.beside(queue, name, place)


def _after_storage(result: CheckResult) -> CheckResult:
    advice = Told("see the check 'storage' first; {then}", then=result.advice)
    return result if result.ok else replace(result, advice=advice)


def _here_checks(answer: Mapping[str, Any]) -> Iterator[tuple[str, CheckResult]]:
    """Checks of the spool, while nothing else is known."""
    if answer["spool"] is not None:
        yield "breakers", state_checks.breakers(answer)
        yield "destinations", state_checks.destinations(answer)
        yield "failures", state_checks.failures(answer)


def _state_checks(queue: Queue, storage: Storage, answer: Mapping[str, Any]) -> Iterator[tuple[str, CheckResult]]:
    """Checks of the queue."""
    yield "oldest", state_checks.oldest(queue, storage, answer)
    yield "unreadable", state_checks.unreadable(storage, answer)
    yield "paused", switches.paused(answer)
    yield "forgotten", switches.forgotten(answer)
    yield "bypassed", switches.bypassed(answer)
    yield "breakers", state_checks.breakers(answer)
    yield "destinations", state_checks.destinations(answer)
    yield "failures", state_checks.failures(answer)
    yield "housekeeping", state_checks.housekeeping(answer)
    yield "loss", state_checks.loss(answer)
    yield "totals", state_checks.totals(answer)
    yield "bounds", state_checks.bounds(answer)


def _plugin_checks(queue: Queue, *, public: bool) -> Iterator[tuple[str, CheckResult]]:
    for plugin, found in queue.plugins.call("register_checks", queue=queue):
        for check in found:
            yield f"{plugin}.{check.name}", _guarded(check.run, public)


def _no_queue(queue: Queue) -> CheckResult:
    if queue.mode == "immediate":
        return CheckResult(True, Told("immediate mode; jobs run in the request"))
    chosen = queue.settings.queue_class
    if not chosen:
        return CheckResult(True, Told("the queue is off (PI_JOB_QUEUE_CLASS is empty); every job runs in the request"))
    if queue.foreign:
        return CheckResult(
            True,
            Told("{name} takes the jobs; pijobs knows nothing about its workers", name=chosen),
            Told("check them with its own tools"),
            warning=True,
        )
    message = Told("{name} could not be imported: there is no queue, jobs run in the request", name=chosen)
    advice = Told("correct PI_JOB_QUEUE_CLASS; the log of the server says why")
    return CheckResult(True, message, advice, warning=True)


def _guarded(run: Callable[[], CheckResult], public: bool) -> CheckResult:
    try:
        return run()
    except Exception as error:
        # Readiness is public; the text of an error is for admins only.
        shown = f" ({type(error).__name__})" if public else f": {describe(error)}"
        message = Told("the check itself failed{shown}", shown=shown)
        return CheckResult(False, message, Told("see the log, and tell the plugin's author"))
