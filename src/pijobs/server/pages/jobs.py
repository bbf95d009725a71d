"""Job instances: the list, the history of one, and the reasons of failures."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

import flask

from pijobs.flask import current_queue
from pijobs.jobs import ENDED, WAITING, State
from pijobs.observe import activity, facts, instances, lists, status
from pijobs.observe.newest import newest
from pijobs.observe.selection import Selection
from pijobs.server.pages import actions
from pijobs.server.pages.languages import _
from pijobs.server.pages.timeline import life
from pijobs.server.pages.web_session import PAGES, Problem, requires
from pijobs.storage.contract import Storage

LIMIT = 50
#: Most dead letters that are grouped by reason.
MOST_DEAD = 1000
#: Choices of the filter by time: seconds and label.
TIMES = {"300": "last 5 minutes", "3600": "last hour", "86400": "last day"}


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/jobs")(jobs)
    blueprint.get("/jobs/<id>")(job)
    blueprint.get("/failures")(failures)


def storage() -> Storage:
    """:raises Problem: when no queue is configured."""
    found = current_queue().storage
    if found is None:
        raise Problem(
            409, _("the queue is off: jobs run in the request"), _("PI_JOB_QUEUE_CLASS in pi.cfg turns it on")
        )
    return found


@requires("viewer")
def jobs() -> str:
    """Instances by ``state``, ``name``, ``group``, ``because`` and ``time`` (seconds back), a page at a time."""
    storage()
    args = flask.request.args
    chosen = chosen_of(args)
    places, away = current_queue().places.within_reach()
    try:
        rows, cursor = _listed(chosen, places, args.get("cursor") or None)
    except ValueError:
        raise Problem(400, _("the list can't continue from there"), _("begin at its first page")) from None
    numbers = status.numbers((place.depths(), place.now()) for place in places)
    states = [(state.value, sum(row.get(state.value, 0) for row in numbers.values())) for state in facts.STATE_ORDER]
    return flask.render_template(
        "pijobs/jobs.html",
        rows=rows,
        away=away,
        cursor=cursor,
        chosen=chosen,
        first=not args.get("cursor"),
        filtered=any(chosen.values()),
        times=TIMES,
        states=states,
        dead=dict(states)[State.DEAD.value],
        names=sorted({*numbers, *current_queue().registry}),
        words={action: actions.words(action) for action in actions.ACTIONS},
        first_steps=flask.current_app.extensions[PAGES].first_steps,
    )


def _listed(
    chosen: Mapping[str, str], places: Collection[Storage], cursor: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """The newest first. With a state or a reason, they are listed state by state."""
    if chosen["state"] or chosen["because"]:
        return fitting(chosen, places, limit=LIMIT, cursor=cursor)
    return newest(
        current_queue(), limit=LIMIT, cursor=cursor, since=_since(chosen), places=places,
        name=chosen["name"] or None, group=chosen["group"] or None,
    )  # fmt: skip


def _since(chosen: Mapping[str, str]) -> int | None:
    return storage().now() - int(chosen["time"]) * 1000 if chosen["time"] in TIMES else None


def chosen_of(fields: Mapping[str, str]) -> dict[str, str]:
    """The values of the filter's fields."""
    chosen = {name: fields.get(name, "").strip()[:200] for name in ("state", "name", "group", "time")}
    return {**chosen, "because": fields.get("because", "").strip()[:2000]}


def filter_of(fields: Mapping[str, str]) -> dict[str, Any]:
    """The fields of the filter that are set, for a link to the same list."""
    return {name: value for name, value in chosen_of(fields).items() if value}


def fitting(
    chosen: Mapping[str, str],
    places: Collection[Storage],
    *,
    limit: int,
    state: State | None = None,
    cursor: str | None = None,
) -> tuple[list[dict[str, Any]], str | None]:
    """Matching instances, as :func:`pijobs.observe.lists.listing` returns them.

    :raises ValueError: for an invalid cursor.
    """
    only = Selection(states=(), because=chosen["because"]) if chosen["because"] else None
    return lists.listing(
        current_queue(), state=state or _state(chosen["state"]), name=chosen["name"] or None,
        group=chosen["group"] or None, since=_since(chosen), only=only, cursor=cursor, limit=limit, places=places,
    )  # fmt: skip


def _state(text: str) -> State | None:
    try:
        return State(text) if text else None
    except ValueError:
        raise Problem(400, _("there is no such state"), _("choose one of the list")) from None


@requires("viewer")
def job(id: str) -> str:
    """Show the history of one instance."""
    storage()
    row = instances.explained(current_queue(), id, advice=False)
    state = State(row["state"])
    allowed = [name for name, states in actions.ACTIONS.items() if state in states]
    if not row["can_be_retried"]:
        allowed = [name for name in allowed if name != "retry"]
    return flask.render_template(
        "pijobs/job.html", row=row, steps=life(row), actions=allowed, ended=state in ENDED, waiting=state in WAITING,
        words={action: actions.words(action) for action in allowed},
    )  # fmt: skip


@requires("viewer")
def failures() -> str:
    """List dead letters by job and reason, the most frequent first."""
    storage()
    places, _away = current_queue().places.within_reach()
    dead = Selection(states=(State.DEAD,)).find(current_queue(), places)
    found = [record for _place, record in islice(dead, MOST_DEAD)]
    rows = activity.by_reason(places[0].now(), found)
    return flask.render_template("pijobs/failures.html", rows=rows, cut=len(found) if len(found) == MOST_DEAD else 0)
