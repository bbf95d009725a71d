"""``/schedule``: the periodic jobs."""

from __future__ import annotations

import dataclasses

import flask

from pijobs.errors import UnknownJob
from pijobs.flask import current_queue
from pijobs.observe.facts import moment
from pijobs.observe.schedule import run_now, scheduled, skip
from pijobs.plugins.hookspecs import Scheduled
from pijobs.server.api import ApiError, answer, parameters, present_storage
from pijobs.server.audited import audit, given_reason
from pijobs.server.described import REASON, takes
from pijobs.server.machines import STATUS
from pijobs.server.rights import requires

blueprint = flask.Blueprint("pijobs_schedule", __name__)


@blueprint.get("/schedule")
@requires("viewer", scope=STATUS)
@takes()
def list_scheduled() -> flask.Response:
    """The periodic jobs, also those of plugins: the ``next`` run of each, the scheduled time of its ``last`` run, and
    the result of that (``instance``, ``state``, ``reason``)."""
    present_storage()
    return answer([_shown(row) for row in scheduled(current_queue())])


@blueprint.post("/schedule/<identifier>/run")
@requires("operator")
@takes(REASON)
def run(identifier: str) -> flask.Response:
    """Run a periodic job now, in addition to its schedule. The answer is the id of the instance."""
    present_storage()
    reason = given_reason(parameters())
    try:
        id = run_now(current_queue(), identifier)
    except UnknownJob as error:
        raise ApiError(404, 601, str(error)) from None
    audit("schedule.run", on=identifier, fields=[id], reason=reason)
    return answer(id)


@blueprint.post("/schedule/<identifier>/skip")
@requires("operator")
@takes(REASON)
def leave_out(identifier: str) -> flask.Response:
    """Skip the next time of a periodic job. The answer is that time."""
    present_storage()
    reason = given_reason(parameters())
    try:
        due = skip(current_queue(), identifier, by=flask.g.account.name)
    except UnknownJob as error:
        raise ApiError(404, 601, str(error)) from None
    audit("schedule.skip", on=identifier, reason=reason)
    return answer(moment(due))


def _shown(row: Scheduled) -> dict[str, object]:
    times = {"next": moment(row.next), "last": moment(row.last), "skipped": [moment(time) for time in row.skipped]}
    return {**dataclasses.asdict(row), **times}
