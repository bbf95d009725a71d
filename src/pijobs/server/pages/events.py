"""The last events of all jobs, one job, or one worker."""

from __future__ import annotations

import flask

from pijobs.flask import current_queue
from pijobs.observe.events import events
from pijobs.server.pages.jobs import storage
from pijobs.server.pages.timeline import step_of
from pijobs.server.pages.web_session import PAGES, requires

LIMIT = 100


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/events", endpoint="events")(log)


@requires("viewer")
def log() -> str:
    """List the last events, by ``job`` and ``worker``, the newest first."""
    storage()
    job, worker = (flask.request.args.get(name, "").strip()[:300] for name in ("job", "worker"))
    places, away = current_queue().places.within_reach()
    found = events(current_queue(), job=job or None, worker=worker or None, limit=LIMIT, places=places)
    rows = [{"moment": step_of(event, row), "worker": event.get("worker"), "instance": row} for event, row in found]
    steps = flask.current_app.extensions[PAGES].first_steps
    return flask.render_template("pijobs/events.html", rows=rows, job=job, worker=worker, away=away, first_steps=steps)
