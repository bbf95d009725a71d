"""The first page: is it going out now?"""

from __future__ import annotations

import flask

from pijobs import activity, status
from pijobs.errors import StorageUnavailable
from pijobs.flask import current_queue
from pijobs.readiness import readiness
from pijobs.server.pages import plots
from pijobs.server.pages.headline import headline, topics
from pijobs.server.pages.visitor import PAGES, requires

_NOTHING = {"span": 3600.0, "bins": [], "jobs": {}, "failures": [], "failed": 0, "failures_cut": False}


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/")(overview)


@requires("viewer")
def overview() -> str:
    """One sentence, and what stands behind it."""
    queue = current_queue()
    answer, recent = status.overview(queue), _NOTHING
    if queue.storage is not None and answer["reachable"]:
        try:
            recent = activity.recent(queue.storage)
        except StorageUnavailable as error:
            answer = {**answer, "reachable": False, "reason": str(error)}
    entries = flask.current_app.extensions[PAGES].entries
    return flask.render_template(
        "pijobs/overview.html",
        headlines=[headline(topic, answer, recent, queue.option("READY_MAX_AGE")) for topic in topics(entries)],
        answer=answer,
        recent=recent,
        plots=plots,
        checks=[(name, check) for name, check in readiness(queue) if check.warning or not check.ok],
    )
