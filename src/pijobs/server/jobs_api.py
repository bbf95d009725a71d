"""``/jobs``, ``/workers`` and ``/groups``. A viewer sees, an operator acts. No bodies."""

from __future__ import annotations

import re
from typing import Any

import flask

from pijobs import status
from pijobs.flask import current_installation, current_queue
from pijobs.jobs import ENDED, WAITING, State
from pijobs.keys import KeyRing
from pijobs.server.api import ApiError, answer, parameters
from pijobs.server.rights import requires
from pijobs.storage.contract import Page, Storage

MOST = 500
#: Pages of the storage that are read for one answer. With several filters they may hold few records or none.
MOST_PAGES = 50

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

    A page may hold fewer than ``limit`` while its cursor goes on; without a cursor it was the last.
    """
    values, storage = parameters(), _storage()
    filters = {name: values[name] for name in ("name", "group") if values.get(name)}
    limit = _limit(values.get("limit", 50))
    states = status.STATE_ORDER if not values.get("state") else (_state(values["state"]),)
    subjects: list[str | None] = [None]
    if values.get("subject"):
        subjects = [*KeyRing.of(current_installation().settings).lookups("subject", str(values["subject"]))]
    places = [(state, subject) for state in states for subject in subjects]
    index, cursor = _cursor(values.get("cursor"), len(places))
    rows: list[dict[str, Any]] = []
    for _ in range(MOST_PAGES):
        if index == len(places) or len(rows) == limit:
            break
        state, subject = places[index]
        page = _page(storage, state, subject=subject, cursor=cursor, limit=limit - len(rows), **filters)
        rows += [status.instance(record, storage.now()) for record in page.records]
        cursor = page.cursor
        if cursor is None:
            index += 1
    following = f"{index}.{cursor or ''}" if index < len(places) else None
    return answer({"jobs": rows, "cursor": following})


def _page(storage: Storage, state: State, **options: Any) -> Page:
    try:
        return storage.page(state, **options)
    except ValueError:
        raise ApiError(400, 905, "the cursor is none of ours; begin without one") from None


def _cursor(text: Any, most: int) -> tuple[int, str | None]:
    """The place in the chain of states, and the storage's cursor there."""
    if not text:
        return 0, None
    index, _, cursor = str(text).partition(".")
    if not re.fullmatch(r"[0-9]{1,3}", index) or int(index) >= most:
        raise ApiError(400, 905, "the cursor is none of ours; begin without one")
    return int(index), cursor or None


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
    """One instance with its history."""
    storage = _storage()
    return answer(status.instance(storage.get(id), storage.now()))


@blueprint.post("/jobs/<id>/retry")
@requires("operator")
def retry(id: str) -> flask.Response:
    """Queue a dead letter again."""
    _storage().retry(id)
    return answer(True)


@blueprint.delete("/jobs/<id>")
@requires("operator")
def delete(id: str) -> flask.Response:
    """Cancel what waits, remove the record of what has ended; what runs is not touched (409)."""
    storage = _storage()
    state = storage.get(id).state
    if state in WAITING:
        storage.cancel(id, reason=f"cancelled by {flask.g.account.name}")
        return answer("cancelled")
    if state in ENDED:
        storage.remove(id)
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
    """The groups, with limits and breakers."""
    return answer(status.groups(_storage()))
