"""``/jobs``, ``/workers`` and ``/groups``. A viewer sees, an operator acts. No bodies."""

from __future__ import annotations

import re
from typing import Any

import flask

from pijobs.flask import current_queue
from pijobs.jobs import ENDED, WAITING, State
from pijobs.observe import instances, status
from pijobs.server.api import ApiError, answer, parameters
from pijobs.server.audited import audit, given_reason
from pijobs.server.rights import requires
from pijobs.storage.contract import Storage

MOST = 500

blueprint = flask.Blueprint("pijobs_jobs", __name__)


def _storage() -> Storage:
    storage = current_queue().storage
    if storage is None:
        raise ApiError(409, 409, "no queue is configured; set PI_JOB_QUEUE_CLASS in pi.cfg")
    return storage


@blueprint.get("/jobs")
@requires("viewer")
def list_jobs() -> flask.Response:
    """Instances, a page at a time: ``state``, ``name``, ``group``, ``subject``, ``limit``, ``cursor``.

    A page may hold fewer than ``limit`` while its cursor goes on; without a cursor it was the last. ``away`` tells that
    the storage does not answer, and that only what lies in the spool of this machine is listed.
    """
    _storage()
    places, away = current_queue().places.within_reach()
    values = parameters()
    state = _state(values["state"]) if values.get("state") else None
    names = ("name", "group", "subject", "cursor")
    filters: dict[str, Any] = {name: str(values[name]) for name in names if values.get(name)}
    try:
        rows, cursor = instances.listing(
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
        states = ", ".join(state.value for state in status.STATE_ORDER)
        raise ApiError(400, 905, f"state: expected one of {states}") from None


@blueprint.get("/jobs/<id>")
@requires("viewer")
def show(id: str) -> flask.Response:
    """One instance with its history, and why it waits."""
    _storage()
    return answer(instances.explained(current_queue(), id))


@blueprint.post("/jobs/<id>/retry")
@requires("operator")
def retry(id: str) -> flask.Response:
    """Queue a dead letter again. ``reason`` stands in the audit log."""
    _storage()
    instances.retry(current_queue(), id)
    audit("job.retry", fields=[id], reason=given_reason(parameters()))
    return answer(True)


@blueprint.delete("/jobs/<id>")
@requires("operator")
def delete(id: str) -> flask.Response:
    """Cancel what waits, remove the record of what has ended; what runs is not touched (409). ``reason`` stands in the
    audit log."""
    _storage()
    storage, record = current_queue().places.find(id)
    state = record.state
    if state in WAITING:
        storage.cancel(id, reason=f"cancelled by {flask.g.account.name}")
        audit("job.cancel", on=record.name, fields=[id], reason=given_reason(parameters()))
        return answer("cancelled")
    if state in ENDED:
        storage.remove(id)
        audit("job.delete", on=record.name, fields=[id], reason=given_reason(parameters()))
        return answer("removed")
    raise ApiError(409, 409, "the instance runs; wait until it has ended")


@blueprint.get("/workers")
@requires("viewer")
def workers() -> flask.Response:
    """The live workers."""
    return answer(status.workers(_storage()))


@blueprint.get("/groups")
@requires("viewer")
def groups() -> flask.Response:
    """The groups by name, with limits and breakers: up to ``limit`` of those behind ``after``."""
    values = parameters()
    after, limit = str(values.get("after", "")), _limit(values.get("limit", MOST))
    return answer([*status.groups(_storage(), after=after, limit=limit)])
