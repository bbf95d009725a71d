"""The page of the periodic jobs."""

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
    blueprint.post("/schedule/<identifier>", endpoint="act_on_schedule")(act)


@requires("viewer")
def schedule() -> str:
    """List the periodic jobs, also those of plugins: the next run of each, and the result of the last."""
    storage()
    rows, jobs = scheduled(current_queue()), current_queue().registry
    return flask.render_template("pijobs/schedule.html", rows=rows, jobs=jobs)


@requires("operator")
def act(identifier: str) -> Response:
    """``run`` a periodic job now, in addition to its schedule, or ``skip`` its next time."""
    storage()
    asked = flask.request.form.get("act")
    try:
        if asked == "run":
            id = run_now(current_queue(), identifier)
            audit("schedule.run", on=identifier, fields=[id])
            return flask.redirect(flask.url_for(".job", id=id), 303)
        if asked == "skip":
            skip(current_queue(), identifier, by=flask.g.pijobs_visitor.name)
            audit("schedule.skip", on=identifier)
            say(_("The next time of {name} is skipped.", name=identifier))
            return flask.redirect(flask.url_for(".schedule"), 303)
    except UnknownJob as error:
        raise Problem(404, str(error)) from None
    raise Problem(400, _("there is no such action"), _("expected one of {names}", names="run, skip"))
