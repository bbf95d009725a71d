"""Actions of an operator on the selected instances, or on all that match a filter, in batches.

The browser asks for one batch after the other and sends the position to continue from. Any server process can do the
next batch, and leaving the page stops the action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import flask
from werkzeug.wrappers import Response

import pijobs.server.pages.jobs as pages
from pijobs.base import clock
from pijobs.base.redact import redact
from pijobs.errors import InstanceNotFound, JobError, StorageUnavailable
from pijobs.flask import current_queue
from pijobs.jobs import READING_ORDER
from pijobs.observe import instances, status
from pijobs.server.audited import audit, given_reason
from pijobs.server.pages.actions import ACTIONS, words
from pijobs.server.pages.formatting import count
from pijobs.server.pages.languages import _, plural
from pijobs.server.pages.web_session import Problem, requires, say

#: Most instances that one form may select.
MOST = 500
#: Seconds that one batch may take, and instances read at a time.
BATCH, AT_ONCE = 1.0, 50
#: Most instances that are counted for the confirmation page.
MOST_COUNTED = 10_000


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.post("/jobs/confirm")(confirm)
    blueprint.post("/jobs/act")(act)


@requires("operator")
def confirm() -> str:
    """Ask for confirmation before an action on instances."""
    form, action = flask.request.form, _action()
    unable, exact, everything = 0, True, "all" in form
    if everything:
        rows, number, exact = _all_that_fit(action)
    else:
        ids = _ids()
        rows = [row for row in _present(ids) if row["state"] in ACTIONS[action]]
        number, unable = len(rows), len(ids) - len(rows)
    return flask.render_template(
        "pijobs/confirm.html", action=action, words=words(action), rows=rows, number=number, exact=exact,
        unable=unable, everything=everything, filter=pages.filter_of(form),
    )  # fmt: skip


def _all_that_fit(action: str) -> tuple[list[dict[str, Any]], int, bool]:
    """Some matching instances, the number of all, and whether that number is exact."""
    chosen = pages.chosen_of(flask.request.form)
    known = _counted(action, chosen)
    rows = list[dict[str, Any]]()
    for found, _cursor in _pages(action, chosen, limit=200):
        rows += found
        if rows and (known or len(rows) >= MOST_COUNTED):
            return rows, max(known, len(rows)), bool(known)
    if not rows:
        raise Problem(
            400, _("no instance matches that can be chosen for this"), _("choose another state, or tick some")
        )
    return rows, len(rows), True


def _counted(action: str, chosen: Mapping[str, str]) -> int:
    """The number of matching instances, if the storage keeps it; else 0."""
    if any(chosen[name] for name in ("group", "time", "because")):
        return 0
    places, _away = current_queue().places.within_reach()
    numbers = status.numbers((place.depths(), place.now()) for place in places)
    states = [state.value for state in ACTIONS[action] if chosen["state"] in ("", state)]
    return sum(row.get(one, 0) for name, row in numbers.items() if chosen["name"] in ("", name) for one in states)


def _pages(
    action: str, chosen: Mapping[str, str], cursor: str = "", *, limit: int = AT_ONCE
) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Matching instances, the newest of each state first, and where to continue. Leaves out instances that match only
    later, so that the iteration ends."""
    states = [state for state in sorted(ACTIONS[action], key=READING_ORDER.index) if chosen["state"] in ("", state)]
    index, _colon, inner = cursor.partition(":")
    if cursor and not (index.isdecimal() and int(index) < len(states)):
        raise Problem(400, _("the list can't continue from there"), _("begin at its first page"))
    places, _away = current_queue().places.within_reach()
    for place, state in list(enumerate(states))[int(index or 0) :]:
        going_on: str | None = inner
        while going_on is not None:
            try:
                rows, going_on = pages.fitting(chosen, places, state=state, limit=limit, cursor=going_on or None)
            except ValueError:
                raise Problem(400, _("the list can't continue from there"), _("begin at its first page")) from None
            yield rows, f"{place}:{going_on}" if going_on else f"{place + 1}:" if place + 1 < len(states) else ""
        inner = ""


@requires("operator")
def act(**_values: Any) -> str | Response:
    """Retry, cancel or delete instances, after the confirmation. Requires a ``reason``."""
    reason = given_reason(flask.request.form)
    if not reason:
        return confirm()
    if "all" in flask.request.form:
        return _next_batch(reason)
    action, ids = _action(), _ids()
    done, faults = _carry_out(action, ids)
    result = f"{len(done)} of {len(ids)}"
    audit(f"job.{action}", "done" if done else "failed", on=result, fields=done or ids, reason=reason)
    _report(action, len(done), len(faults), faults[0] if faults else "")
    if len(ids) == 1 and action != "delete":
        return flask.redirect(flask.url_for(".job", id=ids[0]), 303)
    return _back()


def _next_batch(reason: str) -> str | Response:
    form, action = flask.request.form, _action()
    chosen, end = pages.chosen_of(form), clock.monotonic() + BATCH
    done, unable, cursor = list[str](), 0, ""
    for rows, cursor in _pages(action, chosen, form.get("from", "")):  # noqa: B007
        fresh, faults = _carry_out(action, [row["id"] for row in rows])
        done += fresh
        unable += len(faults)
        if clock.monotonic() > end:
            break
    fits = ", ".join(f"{name} {value}" for name, value in pages.filter_of(form).items()) or "all"
    audit(f"job.{action}", on=f"{len(done)} that fit {fits}", fields=done[:MOST], reason=reason)
    done_before, unable_before, number = (_number(form.get(name)) for name in ("done", "unable", "of"))
    so_far, not_so_far = done_before + len(done), unable_before + unable
    if not cursor:
        _report(action, so_far, not_so_far, _("they had changed meanwhile"))
        return _back()
    carried = {
        **pages.filter_of(form), "all": "1", "action": action, "reason": reason, "from": cursor, "of": number,
        "done": so_far, "unable": not_so_far,
    }  # fmt: skip
    return flask.render_template(
        "pijobs/bulk.html", words=words(action), done=so_far, unable=not_so_far, carried=carried,
        number=max(number, so_far + not_so_far), filter=pages.filter_of(form),
    )  # fmt: skip


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 12 else 0


def _carry_out(action: str, ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """Do an action. Returns the ids of the changed instances, and the errors of the others."""
    done, faults, do = list[str](), list[str](), _doer(action)
    for id in ids:
        try:
            do(id)
            done.append(id)
        except (JobError, StorageUnavailable) as error:
            faults.append(redact(str(error)))
    return done, faults


def _report(action: str, done: int, not_done: int, why: str) -> None:
    texts = words(action)
    if done:
        say(plural(done, texts.done_one, texts.done_many) if done < 1000 else _(texts.done_many, number=count(done)))
    if not_done:
        say(_("{number} not: {why}", number=count(not_done), why=why), "bad")


def _back() -> Response:
    back = flask.redirect(flask.url_for(".jobs", **pages.filter_of(flask.request.form)), 303)
    if flask.request.headers.get("HX-Request"):
        # The script shows all batches in one page. Make it load the list.
        back = flask.Response(headers={"HX-Redirect": back.location})
    return back


def _doer(action: str) -> Callable[[str], None]:
    pages.storage()
    queue = current_queue()
    if action == "retry":
        return partial(instances.retry, queue)
    if action == "delete":
        return queue.remove
    return lambda id: queue.cancel(id, f"cancelled by {flask.g.pijobs_visitor.name}")


def _action() -> str:
    action = flask.request.form.get("action", "")
    if action not in ACTIONS:
        raise Problem(400, _("there is no such action"), _("expected one of {names}", names=", ".join(ACTIONS)))
    return action


def _ids() -> list[str]:
    ids = list(dict.fromkeys(flask.request.form.getlist("id")))
    if not ids:
        raise Problem(400, _("no instance was chosen"), _("go back and tick instances"))
    if len(ids) > MOST:
        raise Problem(400, _("too many instances at once; at most {number}", number=MOST))
    return ids


def _present(ids: Iterable[str]) -> Iterator[dict[str, Any]]:
    pages.storage()
    for id in ids:
        try:
            place, record = current_queue().places.find(id)
        except InstanceNotFound:
            continue
        yield instances.instance(record, place.now())
