"""What happens at certain times."""

from __future__ import annotations

import flask

from pijobs.flask import current_queue
from pijobs.observe.schedule import scheduled
from pijobs.server.pages.jobs import storage
from pijobs.server.pages.web_session import requires


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/schedule")(schedule)


@requires("viewer")
def schedule() -> str:
    """The periodic jobs, and what plugins have done at certain times: when it comes next, and what became of its last
    run."""
    storage()
    return flask.render_template("pijobs/schedule.html", rows=scheduled(current_queue()))
