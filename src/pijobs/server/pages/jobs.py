"""Job instances: lists, the life of one, and what an operator does to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import flask
from werkzeug.wrappers import Response

from pijobs.base.redact import redact
from pijobs.errors import InstanceNotFound, JobError, StorageUnavailable
from pijobs.flask import current_queue
from pijobs.jobs import ENDED, WAITING, State
from pijobs.observe import instances, status
from pijobs.server.audited import audit, given_reason
from pijobs.server.pages.timeline import life
from pijobs.server.pages.web_session import Problem, requires, say
from pijobs.storage.contract import Storage

LIMIT = 50
#: Instances that one form may act on.
MOST = 500
#: What the filter of the time offers: seconds, and words.
TIMES = {"300": "last 5 minutes", "3600": "last hour", "86400": "last day"}
#: What may be done, in which states, and how it is told afterwards.
ACTIONS: dict[str, tuple[frozenset[State], str]] = {
    "retry": (frozenset({State.DEAD}), "queued again"),
    "cancel": (frozenset(WAITING), "cancelled"),
    "delete": (frozenset(ENDED), "deleted"),
}


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/jobs")(jobs)
    blueprint.get("/jobs/<id>")(job)
    blueprint.post("/jobs/confirm")(confirm)
    blueprint.post("/jobs/act")(act)


def storage() -> Storage:
    """:raises Problem: when no queue is configured."""
    found = current_queue().storage
    if found is None:
        raise Problem(409, "the queue is off: jobs run in the request", "PI_JOB_QUEUE_CLASS in pi.cfg turns it on")
    return found


@requires("viewer")
def jobs() -> str:
    """Instances by ``state``, ``name``, ``group`` and ``time`` (seconds back), a page at a time."""
    storage()
    args = flask.request.args
    chosen = _chosen(args)
    places, away = current_queue().places.within_reach()
    try:
        rows, cursor = _fitting(chosen, places, limit=LIMIT, cursor=args.get("cursor") or None)
    except ValueError:
        raise Problem(400, "the list can't go on from there", "begin at its first page") from None
    numbers = status.numbers((place.depths(), place.now()) for place in places)
    return flask.render_template(
        "pijobs/jobs.html",
        rows=rows,
        away=away,
        cursor=cursor,
        chosen=chosen,
        first=not args.get("cursor"),
        filtered=any(chosen.values()),
        times=TIMES,
        states=[
            (state.value, sum(row.get(state.value, 0) for row in numbers.values())) for state in status.STATE_ORDER
        ],
        names=sorted({*numbers, *current_queue().registry}),
    )


def _chosen(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: fields.get(name, "").strip()[:200] for name in ("state", "name", "group", "time")}


def _filter(fields: Mapping[str, str]) -> dict[str, Any]:
    """What of it is set, to lead back to the same list."""
    return {name: value for name, value in _chosen(fields).items() if value}


def _fitting(
    chosen: Mapping[str, str],
    places: Collection[Storage],
    *,
    limit: int,
    state: State | None = None,
    cursor: str | None = None,
) -> tuple[list[dict[str, Any]], str | None]:
    """:raises ValueError: for a cursor that is none of ours."""
    since = storage().now() - int(chosen["time"]) * 1000 if chosen["time"] in TIMES else None
    return instances.listing(
        current_queue(), state=state or _state(chosen["state"]), name=chosen["name"] or None,
        group=chosen["group"] or None, since=since, cursor=cursor, limit=limit, places=places,
    )  # fmt: skip


def _state(text: str) -> State | None:
    try:
        return State(text) if text else None
    except ValueError:
        raise Problem(400, "there is no such state", "choose one of the list") from None


@requires("viewer")
def job(id: str) -> str:
    """The life of one instance."""
    storage()
    row = instances.explained(current_queue(), id)
    state = State(row["state"])
    allowed = [name for name, (states, _) in ACTIONS.items() if state in states]
    if not row["can_be_retried"]:
        allowed = [name for name in allowed if name != "retry"]
    return flask.render_template(
        "pijobs/job.html", row=row, steps=life(row), actions=allowed, ended=state in ENDED, waiting=state in WAITING
    )


@requires("operator")
def confirm() -> str:
    """Ask before something is done to instances."""
    action, ids = _asked()
    states, done = ACTIONS[action]
    found = list(_present(ids))
    able = [record for record in found if record["state"] in states]
    return flask.render_template(
        "pijobs/confirm.html", action=action, done=done, able=able, unable=len(ids) - len(able),
        states=sorted(states), most=MOST if "all" in flask.request.form else None, filter=_filter(flask.request.form),
    )  # fmt: skip


@requires("operator")
def act(**_: Any) -> str | Response:
    """Retry, cancel or delete instances, as it was confirmed. Wants a ``reason``."""
    reason = given_reason(flask.request.form)
    if not reason:
        return confirm()
    action, ids = _asked()
    done, faults = list[str](), list[str]()
    for id in ids:
        try:
            _doer(action)(id)
            done.append(id)
        except (JobError, StorageUnavailable) as error:
            faults.append(redact(str(error)))
    told = f"{len(done)} of {len(ids)}"
    audit(f"job.{action}", "done" if done else "failed", on=told, fields=done or ids, reason=reason)
    if done:
        say(f"{len(done)} {'instance' if len(done) == 1 else 'instances'} {ACTIONS[action][1]}.")
    if faults:
        say(f"{len(faults)} not {ACTIONS[action][1]}: {faults[0]}", "bad")
    if len(ids) == 1 and action != "delete":
        return flask.redirect(flask.url_for(".job", id=ids[0]), 303)
    return flask.redirect(flask.url_for(".jobs", **_filter(flask.request.form)), 303)


def _doer(action: str) -> Callable[[str], None]:
    storage()
    queue = current_queue()
    if action == "retry":
        return partial(instances.retry, queue)
    if action == "delete":
        return queue.remove
    return lambda id: queue.cancel(id, f"cancelled by {flask.g.pijobs_visitor.name}")


def _asked() -> tuple[str, list[str]]:
    form = flask.request.form
    action, ids = form.get("action", ""), list(dict.fromkeys(form.getlist("id")))
    if action not in ACTIONS:
        raise Problem(400, "there is no such action", f"expected one of {', '.join(ACTIONS)}")
    if "all" in form:
        ids = list(_all_that_fit(ACTIONS[action][0], _chosen(form)))
        if not ids:
            raise Problem(400, "no instance fits that can be chosen for this", "choose another state, or tick some")
    if not ids:
        raise Problem(400, "no instance was chosen", "go back and tick those that you mean")
    if len(ids) > MOST:
        raise Problem(400, f"too many instances at once; at most {MOST}")
    return action, ids


def _all_that_fit(states: Iterable[State], chosen: Mapping[str, str]) -> Iterator[str]:
    """Ids of the newest ones, at most :data:`MOST`."""
    left = MOST
    places, _ = current_queue().places.within_reach()
    for state in sorted(states):
        if left and chosen["state"] in ("", state):
            rows, _ = _fitting(chosen, places, state=state, limit=left)
            left -= len(rows)
            yield from (row["id"] for row in rows)


def _present(ids: Iterable[str]) -> Iterable[dict[str, Any]]:
    storage()
    for id in ids:
        try:
            place, record = current_queue().places.find(id)
        except InstanceNotFound:
            continue
        yield instances.instance(record, place.now())
