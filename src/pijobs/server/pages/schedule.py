"""What happens at certain times."""

from __future__ import annotations

import flask
from werkzeug.wrappers import Response

from pijobs.errors import UnknownJob
from pijobs.flask import current_queue
from pijobs.observe.schedule import run_now, scheduled, skip
from pijobs.server.audited import audit
from pijobs.server.pages.jobs import storage
from pijobs.server.pages.languages import _
from pijobs.server.pages.web_session import Problem, requires, say


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/schedule")(schedule)
    blueprint.post("/schedule/<identifier>/run", endpoint="run_now")(run)
    blueprint.post("/schedule/<identifier>/skip", endpoint="skip")(leave_out)


@requires("viewer")
def schedule() -> str:
    """The periodic jobs, and what plugins have done at certain times: when it comes next, and what became of its last
    run."""
    storage()
    rows, jobs = scheduled(current_queue()), current_queue().registry
    return flask.render_template("pijobs/schedule.html", rows=rows, jobs=jobs)


@requires("operator")
def run(identifier: str) -> Response:
    """Run a periodic job now, once more than its schedule says."""
    storage()
    try:
        id = run_now(current_queue(), identifier)
    except UnknownJob as error:
        raise Problem(404, str(error)) from None
    audit("schedule.run", on=identifier, fields=[id])
    return flask.redirect(flask.url_for(".job", id=id), 303)


@requires("operator")
def leave_out(identifier: str) -> Response:
    """Skip the next time of a periodic job."""
    storage()
    try:
        skip(current_queue(), identifier, by=flask.g.pijobs_visitor.name)
    except UnknownJob as error:
        raise Problem(404, str(error)) from None
    audit("schedule.skip", on=identifier)
    say(_("The next time of {name} is skipped.", name=identifier))
    return flask.redirect(flask.url_for(".schedule"), 303)
