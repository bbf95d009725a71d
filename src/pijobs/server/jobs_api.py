"""``/messages``, ``/jobs``, ``/workers`` and ``/groups``. No bodies.

The helpdesk finds the messages of one person, a viewer sees all jobs, an operator acts."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import flask

from pijobs.base import clock, threads
from pijobs.base.redact import redact
from pijobs.errors import EncodeError, InstanceNotFound, InstanceRefused, KeyConflict, StorageUnavailable, UnknownJob
from pijobs.flask import current_queue
from pijobs.jobs import ENDED, WAITING, State
from pijobs.observe import facts, instances, lists, people
from pijobs.request.queue import Queue
from pijobs.server.api import ApiError, answer, in_the_address, parameters, required
from pijobs.server.audited import audit, given_reason
from pijobs.server.described import Parameter, takes
from pijobs.server.machines import ENQUEUE, STATUS, Machine
from pijobs.server.rights import out_of_scope, requires
from pijobs.storage.contract import Storage

MOST = 500
#: Seconds between two looks for one listener, and for which it may listen; listeners of one process.
LOOK, LISTEN, LISTENERS = 1.0, 60.0, 20
log = logging.getLogger(__name__)
_listeners = threads.BoundedSemaphore(LISTENERS)

REASON = Parameter("reason", "for the audit log")
_OPTIONS = ("delay", "expires", "priority", "key", "on_conflict")
_NUMBER = {"type": "number", "minimum": 0}

blueprint = flask.Blueprint("pijobs_jobs", __name__)


def _storage() -> Storage:
    storage = current_queue().storage
    if storage is None:
        raise ApiError(409, 409, "no queue is configured; set PI_JOB_QUEUE_CLASS in pi.cfg")
    return storage


@blueprint.post("/messages")
@requires("helpdesk")
@takes(Parameter("who", "a login name, an address or a number", required=True))
def find_messages() -> flask.Response:
    """The newest messages of one person, and what became of each, in a sentence. ``who``, in the body: a user's login
    name, an address or a number. ``kept`` tells what can't be found any more; ``away`` is that of :func:`list_jobs`.
    """
    _storage()
    if "who" in flask.request.args:
        raise in_the_address("who")
    places, away = current_queue().places.within_reach()
    found = people.messages(current_queue(), required(parameters(), "who"), places=places)
    audit("message.find", on=f"{len(found)} found")
    shown = ("id", "created", "name", "label", "state", "tone")
    rows = [{**{name: row[name] for name in shown}, "sentence": row["told"]} for row in found]
    return answer({"messages": rows, "kept": people.what_is_kept(current_queue()), "away": away})


@blueprint.get("/jobs")
@requires("viewer", scope=STATUS)
@takes(
    Parameter("state", "", {"enum": [state.value for state in facts.STATE_ORDER]}),
    Parameter("name", "of the job"),
    Parameter("group", "what they go to, such as smtp:main"),
    Parameter("subject", "an address, number or login name"),
    Parameter("limit", "of a page", {"type": "integer", "minimum": 1, "maximum": MOST, "default": 50}),
    Parameter("cursor", "of the page before"),
)
def list_jobs() -> flask.Response:
    """List instances, one page at a time: ``state``, ``name``, ``group``, ``subject``, ``limit``, ``cursor``.

    A page may hold fewer than ``limit`` while its cursor goes on; without a cursor it was the last. ``away`` tells that
    the storage does not answer, and that only the spool of this machine is listed.
    """
    _storage()
    places, away = current_queue().places.within_reach()
    values = parameters()
    state = _state(values["state"]) if values.get("state") else None
    names = ("name", "group", "subject", "cursor")
    filters: dict[str, Any] = {name: str(values[name]) for name in names if values.get(name)}
    try:
        rows, cursor = lists.listing(
            current_queue(), state=state, limit=_limit(values.get("limit", 50)), places=places, **filters
        )
    except ValueError:
        raise ApiError(400, 905, "the cursor is none of ours; begin without one") from None
    return answer({"jobs": rows, "cursor": cursor, "away": away})


def _limit(value: Any) -> int:
    text = str(value)
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST:
        raise ApiError(400, 905, f"limit: expected a number from 1 to {MOST}, found {text[:20]!r}")
    return int(text)


def _state(value: Any) -> State:
    try:
        return State(value)
    except ValueError:
        states = ", ".join(state.value for state in facts.STATE_ORDER)
        raise ApiError(400, 905, f"state: expected one of {states}") from None


@blueprint.post("/jobs")
@requires("admin", scope=ENQUEUE)
@takes(
    Parameter("name", "of the job", required=True),
    Parameter("kwargs", "the job's arguments, by their names", "object"),
    Parameter("delay", "seconds to wait before the first attempt", _NUMBER),
    Parameter("expires", "seconds after which it must not happen any more", {**_NUMBER, "exclusiveMinimum": 0}),
    Parameter("priority", "higher first", {"type": "integer", "minimum": -1000, "maximum": 1000}),
    Parameter("key", "of the instances with this key only the newest waits"),
    Parameter("on_conflict", "when one with the key waits", {"enum": ["replace", "keep", "error"]}),
)
def enqueue() -> flask.Response:
    """Enqueue a job, as ``queue.enqueue`` does it: ``name``, ``kwargs`` and options. Answers ``id``, ``state``, ``via``
    and ``reason`` of the instance. A machine's token enqueues the jobs that its scope names.
    """
    _storage()
    values = parameters()
    name, machine = required(values, "name"), flask.g.account
    if isinstance(machine, Machine) and not machine.may(ENQUEUE + name):
        raise out_of_scope(ENQUEUE + name)
    kwargs = values.get("kwargs") or {}
    if not isinstance(kwargs, dict):
        raise ApiError(400, 905, "kwargs: expected a JSON object")
    options = {option: values[option] for option in _OPTIONS if values.get(option) is not None}
    try:
        handle = current_queue().enqueue(name, kwargs=kwargs, **options)
    except (UnknownJob, EncodeError, ValueError) as error:
        raise ApiError(400, 905, redact(str(error))) from None
    except KeyConflict as error:
        raise ApiError(409, 409, str(error)) from None
    except InstanceRefused as error:
        raise ApiError(413, 413, str(error)) from None
    if isinstance(machine, Machine):  # so many that they would push all else out of the audit log
        log.info("job %s %s: enqueued by the token %r", name, handle.id, machine.name)
    else:
        audit("job.enqueue", on=name, fields=[handle.id])
    return answer({"id": handle.id, "state": handle.state.value, "via": handle.via, "reason": handle.reason})


@blueprint.get("/jobs/<id>")
@requires("viewer", scope=STATUS)
def show(id: str) -> flask.Response:
    """One instance with its history, and why it waits."""
    _storage()
    return answer(instances.explained(current_queue(), id))


@blueprint.get("/jobs/<id>/events")
@requires("viewer", scope=STATUS)
@takes(media=["text/event-stream"])
def events(id: str) -> flask.Response:
    """Server-sent events ``job``: one instance as :func:`show` tells it, now and after each change, until it has ended;
    at most for a minute, then the client asks again. Each open one holds a thread of the server; there are
    20 in a process, further ones get 503.
    """
    _storage()
    queue = current_queue()
    instances.explained(queue, id)
    if not _listeners.acquire(blocking=False):
        raise ApiError(503, 503, f"{LISTENERS} clients listen to this process already; ask again, or GET /jobs/<id>")
    response = flask.Response(flask.stream_with_context(_changes(queue, id)), mimetype="text/event-stream")
    # Of a client that goes before the first event the generator never begins.
    response.call_on_close(_listeners.release)
    response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    return response


def _changes(queue: Queue, id: str) -> Iterator[str]:
    told, end = None, clock.monotonic() + LISTEN
    yield f"retry: {LOOK * 1000:.0f}\n\n"
    while True:
        try:
            row = instances.explained(queue, id)
        except (InstanceNotFound, StorageUnavailable):
            return
        seen = {name: row[name] for name in ("state", "progress", "attempts", "reason")}
        # A comment shows whether the client is still there.
        yield ": nothing new\n\n" if seen == told else f"event: job\ndata: {json.dumps(row)}\n\n"
        told = seen
        if State(row["state"]) in ENDED or clock.monotonic() >= end:
            return
        clock.sleep(LOOK)


@blueprint.post("/jobs/<id>/retry")
@requires("operator")
@takes(REASON)
def retry(id: str) -> flask.Response:
    """Queue a dead letter again. ``reason`` stands in the audit log."""
    _storage()
    reason = given_reason(parameters())
    instances.retry(current_queue(), id)
    audit("job.retry", fields=[id], reason=reason)
    return answer(True)


@blueprint.delete("/jobs/<id>")
@requires("operator")
@takes(REASON)
def delete(id: str) -> flask.Response:
    """Cancel a waiting instance, or remove the record of an ended one. A running one is not touched (409). ``reason``
    stands in the audit log."""
    _storage()
    reason = given_reason(parameters())
    storage, record = current_queue().places.find(id)
    state = record.state
    if state in WAITING:
        storage.cancel(id, reason=f"cancelled by {flask.g.account.name}")
        audit("job.cancel", on=record.name, fields=[id], reason=reason)
        return answer("cancelled")
    if state in ENDED:
        storage.remove(id)
        audit("job.delete", on=record.name, fields=[id], reason=reason)
        return answer("removed")
    raise ApiError(409, 409, "the instance runs; wait until it has ended")


@blueprint.get("/workers")
@requires("viewer", scope=STATUS)
def workers() -> flask.Response:
    """The live workers."""
    return answer(facts.workers(_storage()))


@blueprint.get("/groups")
@requires("viewer", scope=STATUS)
@takes(
    Parameter("after", "a name: the groups behind it"),
    Parameter("limit", "at most so many", {"type": "integer", "minimum": 1, "maximum": MOST}),
)
def groups() -> flask.Response:
    """The groups by name, with limits and circuit breakers: up to ``limit`` after the name ``after``."""
    values = parameters()
    after, limit = str(values.get("after", "")), _limit(values.get("limit", MOST))
    return answer([*facts.groups(_storage(), after=after, limit=limit)])
