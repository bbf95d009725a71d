"""The page of workers and destinations, and their switches."""

from __future__ import annotations

from typing import Any

import flask
from werkzeug.wrappers import Response

from pijobs.errors import InstanceNotFound
from pijobs.flask import current_queue
from pijobs.jobs import WAITING, State
from pijobs.observe import facts
from pijobs.observe.load import load
from pijobs.server import switched
from pijobs.server.pages.jobs import storage
from pijobs.server.pages.languages import _, plural
from pijobs.server.pages.web_session import Problem, requires, say
from pijobs.storage.contract import Storage
from pijobs.storage.records import Depths
from pijobs.storage.texts import storable_name

#: Most groups that are shown; there may be one for each of many destinations.
MOST_GROUPS = 200


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/workers")(workers)
    blueprint.post("/workers/pause")(pause)
    blueprint.post("/workers/resume")(resume)
    blueprint.post("/workers/flush")(flush)
    blueprint.post("/workers/bypass")(bypass)
    blueprint.post("/workers/bypass/end")(end_bypass)
    blueprint.post("/workers/quiet")(quiet)


@requires("viewer")
def workers() -> str:
    """Show the live workers with their running jobs, and the groups with limits and breakers. While the storage does
    not answer, shows the spool of this machine."""
    storage()
    places, away = current_queue().places.within_reach()
    found = places[0]
    depths, now = found.depths(), found.now()
    live = facts.workers(found)
    in_trouble = [*facts.groups_in_trouble(found)]
    groups = _foremost(found, in_trouble)
    return flask.render_template(
        "pijobs/workers.html",
        workers=[{**row, "runs": [_run(found, id) for id in row["running"][:20]]} for row in live],
        groups=groups[:MOST_GROUPS],
        more_groups=len(groups) > MOST_GROUPS,
        pause=None if depths.pause is None else facts.pause_of(depths.pause, now),
        bypasses=[{"group": name or None, **facts.pause_of(one, now)} for name, one in depths.bypasses.items()],
        jobs=sorted(current_queue().registry),
        load=_load(depths, live, in_trouble),
        away=away,
    )


def _foremost(found: Storage, in_trouble: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups to be shown, those in trouble first, and one more if there are more."""
    first = sorted(in_trouble, key=lambda row: (not row["paused"], not row["failures"], row["name"]))
    shown = {row["name"]: row for row in (*first, *facts.groups(found, limit=MOST_GROUPS + 1))}
    return [*shown.values()][: MOST_GROUPS + 1]


def _load(depths: Depths, live: list[dict[str, Any]], groups: list[dict[str, Any]]) -> dict[str, Any]:
    queued = sum(number for (_, state), number in depths.counts.items() if state is State.QUEUED)
    states = {State.QUEUED.value: queued}
    return load(live, states, groups, within=current_queue().settings.ready_max_age)


def _run(found: Storage, id: str) -> dict[str, Any]:
    try:
        record = found.get(id)
    except InstanceNotFound:  # removed meanwhile
        return {"id": id, "name": "ended", "since": None}
    since = None if record.started is None else facts.age(record.started, found.now())
    return {"id": id, "name": record.name, "since": since}


@requires("operator")
def pause() -> str | Response:
    """Start no more jobs of one ``group``, or of all. Running jobs continue. Requires confirmation and a ``reason``."""
    group = _group()
    reason = flask.request.form.get("reason", "").strip()
    if not reason:
        record = None if group is None else storage().group(group)
        counts = storage().depths().counts
        queued = sum(number for (_, state), number in counts.items() if state in WAITING)
        waiting = queued if record is None else record.waiting
        named = _("the queue") if group is None else _("group {name}", name=group)
        return flask.render_template("pijobs/pause.html", group=group, named=named, waiting=waiting)
    switched.pause(storage(), group, reason)
    say(_("{what} is paused. What runs goes on; nothing new starts.", what=_label(group)), "warn")
    return flask.redirect(flask.url_for(".workers"), 303)


@requires("operator")
def resume() -> Response:
    """End a pause, and let one instance try a destination that is down."""
    group = _group()
    if switched.resume(storage(), group):
        say(_("{what}: one instance tries the destination now; its outcome decides.", what=_label(group)))
    else:
        say(_("{what} goes on.", what=_label(group)))
    return flask.redirect(flask.url_for(".workers"), 303)


@requires("operator")
def flush() -> Response:
    """Try the destination of a ``group`` now, with all instances that wait for their next attempt."""
    if (group := _group()) is None:
        raise Problem(404, _("there is no group with this name (any more)"))
    down, number = switched.flush(storage(), group)
    if down:
        say(_("{what}: one instance tries the destination now; its outcome decides.", what=_label(group)))
    else:
        say(
            plural(
                number,
                "{what}: 1 instance is due now.",
                "{what}: {number} instances are due now.",
                what=_label(group),
            )
        )
    return flask.redirect(flask.url_for(".workers"), 303)


@requires("operator")
def bypass() -> str | Response:
    """Run new calls of one ``group``, or of all, in the request. Requires confirmation and a ``reason``."""
    group = _group()
    reason = flask.request.form.get("reason", "").strip()
    if not reason:
        return flask.render_template("pijobs/bypass.html", group=group)
    switched.bypass(storage(), group, reason)
    say(_("{what} is bypassed: new calls run in the request.", what=_label(group)), "warn")
    return flask.redirect(flask.url_for(".workers"), 303)


@requires("operator")
def end_bypass() -> Response:
    """Enqueue new calls of one ``group``, or of all, again."""
    group = _given_group()
    switched.end_bypass(storage(), group)
    say(_("{what}: new calls go by the queue again.", what=_label(group)))
    return flask.redirect(flask.url_for(".workers"), 303)


@requires("operator")
def quiet() -> Response:
    """Tell a worker process (``host``, ``pid``) to take no more jobs or, with ``end``, to take jobs again."""
    form = flask.request.form
    host, pid, end = form.get("host", ""), form.get("pid", ""), bool(form.get("end"))
    number = pid.isascii() and pid.isdigit() and len(pid) < 11
    if not number or not switched.take_no_more(storage(), host, int(pid), end=end):
        raise Problem(404, _("this worker does not exist any more"))
    message = (
        _("{host} takes jobs again.", host=host)
        if end
        else _("{host} takes no more jobs, and finishes the ones it has.", host=host)
    )
    say(message, "good" if end else "warn")
    return flask.redirect(flask.url_for(".workers"), 303)


def _given_group() -> str | None:
    """The posted group as the storage writes it: PostgreSQL accepts no NUL."""
    return storable_name(flask.request.form.get("group", "")) or None


def _group() -> str | None:
    group = _given_group()
    if group is not None and storage().group(group) is None:
        raise Problem(404, _("there is no group with this name (any more)"))
    return group


def _label(group: str | None) -> str:
    return _("The queue") if group is None else _("Group {name}", name=group)
