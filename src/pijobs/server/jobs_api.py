"""``/messages``, ``/jobs``, ``/workers`` and ``/groups``. No answer contains a job's arguments.

The helpdesk finds the messages of one person, a viewer sees all jobs, an operator changes them."""

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
from pijobs.server.api import ApiError, answer, in_the_address, parameters, present_storage, required
from pijobs.server.audited import audit, given_reason
from pijobs.server.described import REASON, Parameter, takes
from pijobs.server.machines import ENQUEUE, STATUS, Machine
from pijobs.server.rights import out_of_scope, requires

MOST = 500
#: Seconds between two reads for one listener, most seconds of one listener, most listeners of one process.
LOOK, LISTEN, LISTENERS = 1.0, 60.0, 20
log = logging.getLogger(__name__)
_listeners = threads.BoundedSemaphore(LISTENERS)

_OPTIONS = ("delay", "expires", "priority", "key", "on_conflict")
_NUMBER = {"type": "number", "minimum": 0}

blueprint = flask.Blueprint("pijobs_jobs", __name__)


@blueprint.post("/messages")
@requires("helpdesk")
@takes(Parameter("who", "a login name, an address or a number", required=True))
def find_messages() -> flask.Response:
    """The newest messages of one person, each with a sentence about its state. ``who``, in the body: a login name,
    address or number. ``kept`` tells how long messages can be found; ``away`` is as in :func:`list_jobs`.
    """
    present_storage()
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
    Parameter("group", "the destination, such as smtp:main"),
    Parameter("subject", "an address, number or login name"),
    Parameter("limit", "of a page", {"type": "integer", "minimum": 1, "maximum": MOST, "default": 50}),
    Parameter("cursor", "of the page before"),
)
def list_jobs() -> flask.Response:
    """List instances, one page at a time: ``state``, ``name``, ``group``, ``subject``, ``limit``, ``cursor``.

    A page may have fewer than ``limit`` instances; only the last page has no cursor. ``away`` tells why the storage
    does not answer; then only the spool of this machine is listed.
    """
    present_storage()
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
    Parameter("expires", "seconds after which no attempt may start", {**_NUMBER, "exclusiveMinimum": 0}),
    Parameter("priority", "higher first", {"type": "integer", "minimum": -1000, "maximum": 1000}),
    Parameter("key", "only the newest instance with this key waits"),
    Parameter("on_conflict", "what to do if another one waits", {"enum": ["replace", "keep", "error"]}),
)
def enqueue() -> flask.Response:
    """Enqueue a job, as ``queue.enqueue`` does: ``name``, ``kwargs`` and options. Answers ``id``, ``state``, ``via``
    and ``reason`` of the instance. A machine's token can enqueue the jobs in its scope.
    """
    present_storage()
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
    if isinstance(machine, Machine):  # too many for the audit log: they would push out its other entries
        log.info("job %s %s: enqueued by the token %r", name, handle.id, machine.name)
    else:
        audit("job.enqueue", on=name, fields=[handle.id])
    return answer({"id": handle.id, "state": handle.state.value, "via": handle.via, "reason": handle.reason})


@blueprint.get("/jobs/<id>")
@requires("viewer", scope=STATUS)
def show(id: str) -> flask.Response:
    """One instance with its history, and why it waits."""
    present_storage()
    return answer(instances.explained(current_queue(), id))


@blueprint.get("/jobs/<id>/events")
@requires("viewer", scope=STATUS)
@takes(media=["text/event-stream"])
def events(id: str) -> flask.Response:
    """Server-sent events ``job``: one instance as :func:`show` returns it, now and after each change, until it ends.
    A connection lasts at most a minute; then the client connects again. Each one holds a thread of the server; a
    process accepts 20, and answers 503 to more.
    """
    present_storage()
    queue = current_queue()
    instances.explained(queue, id)
    if not _listeners.acquire(blocking=False):
        raise ApiError(503, 503, f"{LISTENERS} clients listen to this process already; ask again, or GET /jobs/<id>")
    response = flask.Response(flask.stream_with_context(_changes(queue, id)), mimetype="text/event-stream")
    # The generator never starts if the client leaves before the first event, so its end can't release.
    response.call_on_close(_listeners.release)
    response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    return response


def _changes(queue: Queue, id: str) -> Iterator[str]:
    sent, end = None, clock.monotonic() + LISTEN
    yield f"retry: {LOOK * 1000:.0f}\n\n"
    while True:
        try:
            row = instances.explained(queue, id)
        except (InstanceNotFound, StorageUnavailable):
            return
        seen = {name: row[name] for name in ("state", "progress", "attempts", "reason")}
        # Writing a comment finds out whether the client is still connected.
        yield ": nothing new\n\n" if seen == sent else f"event: job\ndata: {json.dumps(row)}\n\n"
        sent = seen
        if State(row["state"]) in ENDED or clock.monotonic() >= end:
            return
        clock.sleep(LOOK)


@blueprint.post("/jobs/<id>/retry")
@requires("operator")
@takes(REASON)
def retry(id: str) -> flask.Response:
    """Queue a dead letter again. The audit log keeps ``reason``."""
    present_storage()
    reason = given_reason(parameters())
    instances.retry(current_queue(), id)
    audit("job.retry", fields=[id], reason=reason)
    return answer(True)


@blueprint.delete("/jobs/<id>")
@requires("operator")
@takes(REASON)
def delete(id: str) -> flask.Response:
    """Cancel a waiting instance, or remove the record of an ended one. Refuses a running one (409). The audit log
    keeps ``reason``."""
    present_storage()
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
    return answer(facts.workers(present_storage()))


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
    return answer([*facts.groups(present_storage(), after=after, limit=limit)])
