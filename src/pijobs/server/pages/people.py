"""The helpdesk's page: the messages of one person and their state."""

from __future__ import annotations

import flask

from pijobs.flask import current_queue
from pijobs.observe import people
from pijobs.server.audited import audit
from pijobs.server.pages.formatting import duration
from pijobs.server.pages.jobs import storage
from pijobs.server.pages.languages import _
from pijobs.server.pages.web_session import requires


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/messages")(messages)
    # POST, since logs keep addresses, and the person's name must not be in a log.
    blueprint.post("/messages")(find)


@requires("helpdesk")
def messages() -> str:
    """Show the empty form."""
    return _page("", None, None)


@requires("helpdesk")
def find() -> str:
    """Show what happened to the messages of ``who``."""
    storage()
    who = flask.request.form.get("who", "").strip()[: people.LONGEST]
    if not who:
        return _page("", None, None)
    places, away = current_queue().places.within_reach()
    rows = people.messages(current_queue(), who, places=places)
    audit("message.find", on=f"{len(rows)} found")
    return _page(who, rows, away)


def _page(who: str, rows: list[dict[str, object]] | None, away: str | None) -> str:
    finished, dead = map(duration, people.kept_for(current_queue()))
    kept = _(people.KEPT, finished=finished, dead=dead)
    return flask.render_template("pijobs/messages.html", who=who, rows=rows, away=away, kept=kept, most=people.MOST)
