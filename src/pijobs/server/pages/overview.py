"""The first page: whether jobs are going out now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flask
from werkzeug.wrappers import Response

from pijobs.errors import StorageUnavailable
from pijobs.flask import current_queue
from pijobs.jobs import WAITING
from pijobs.observe import activity, status
from pijobs.observe.past import SPANS, past
from pijobs.observe.readiness import readiness
from pijobs.request.queue import Queue
from pijobs.server.pages import plots
from pijobs.server.pages.formatting import told
from pijobs.server.pages.languages import _
from pijobs.server.pages.summary import Topic, headline
from pijobs.server.pages.web_session import PAGES, requires
from pijobs.storage.contract import Storage

_NOTHING: dict[str, Any] = {"jobs": {}, "failures": [], "failed": 0, "failures_cut": False}


#: The page that helps with a failing check, by the check's name.
LINKS = {
    "failures": "failures", "oldest": "jobs", "unreadable": "jobs",
    **dict.fromkeys(("worker", "paused", "forgotten", "bypassed", "breakers", "destinations"), "workers"),
}  # fmt: skip

#: Most destinations in trouble that are shown.
MOST_GROUPS = 20
#: Most jobs and destinations whose times are shown.
MOST_ROWS = 30


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/")(overview)


@requires("helpdesk")
def overview() -> str | Response:
    """The overview: one sentence, and its details. The helpdesk gets the page Messages."""
    if not flask.g.pijobs_visitor.may("viewer"):
        return flask.redirect(flask.url_for(".messages"))
    queue = current_queue()
    chosen = _chosen()
    answer, recent, before = _state_now(queue, chosen)
    checks = [(name, check) for name, check in readiness(queue, answer) if check.warning or not check.ok]
    critical = {name: told(check.message) for name, check in checks if not check.ok}
    if "storage" in critical and answer["reachable"]:
        answer = {**answer, "fallback": status.fallback(queue)}
    site = flask.current_app.extensions[PAGES]
    return flask.render_template(
        "pijobs/overview.html",
        headlines=[
            headline(topic, answer, recent, queue.settings.ready_max_age, critical)
            for topic in _topics(site.topics, answer, recent)
        ],
        answer=answer,
        recent=recent,
        plots=plots.of_past(before, sum(row["workers"] for row in answer["workers"])) if before else [],
        rows=before["rows"][:MOST_ROWS] if before else [],
        chosen=chosen,
        spans={"hour": _("last hour"), "day": _("last day"), "week": _("last week")},
        first_steps=site.first_steps,
        check_links=LINKS,
        checks=checks,
    )


def _chosen() -> dict[str, str]:
    args = flask.request.args
    span = args.get("span", "")
    return {"span": span if span in SPANS else "hour", **{name: args.get(name, "")[:200] for name in ("job", "group")}}


def _state_now(
    queue: Queue, chosen: Mapping[str, str]
) -> tuple[dict[str, Any], Mapping[str, Any], Mapping[str, Any] | None]:
    """The present state, the recent activity, and the data of the plots."""
    answer, recent, before = status.overview(queue), _NOTHING, None
    if queue.storage is not None and answer["reachable"]:
        try:
            step, number = SPANS[chosen["span"]]
            recent = activity.recent(queue.storage, step.size * number)
            before = past(queue, **chosen)
            answer = _with_jobs(answer, queue.storage)
        except StorageUnavailable as error:
            away = {"reachable": False, "what": error.what, "reason": str(error), "fallback": status.fallback(queue)}
            answer = {**answer, **away}
    elif queue.spool is not None and answer.get("groups"):
        answer = _with_jobs(answer, queue.spool)
    return answer, recent, before


def _topics(topics: Sequence[Topic], answer: Mapping[str, Any], recent: Mapping[str, Any]) -> list[Topic]:
    """The first topic, and those others that have jobs here: no sentence about SMS without a gateway."""
    first, *others = topics
    return [first, *(one for one in others if one.of(answer.get("jobs", {})) or one.of(recent["jobs"]))]


def _with_jobs(answer: Mapping[str, Any], storage: Storage) -> dict[str, Any]:
    """The answer, with the names of the jobs that wait for each group."""
    rows = [{**row, "jobs": _waiting_for(storage, row)} for row in answer["groups"][:MOST_GROUPS]]
    return {**answer, "groups": rows}


def _waiting_for(storage: Storage, row: Mapping[str, Any]) -> list[str]:
    """Names of jobs that wait for a group, from its newest instance in each state."""
    if not row["waiting"]:
        return []
    pages = (storage.page(state, group=row["name"], limit=1) for state in sorted(WAITING))
    return [record.name for page in pages for record in page.records]
