"""The audit log, for admins."""

from __future__ import annotations

import flask

from pijobs.audit import AuditLog
from pijobs.flask import current_installation
from pijobs.server.pages.web_session import requires

LIMIT = 50


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/audit")(audit)


@requires("admin")
def audit() -> str:
    """List the audit log, newest first, a page at a time; ``who`` and ``act`` filter it."""
    args = flask.request.args
    who, act, before = (args.get(name, "").strip()[:200] for name in ("who", "act", "before"))
    log = AuditLog.of(current_installation().settings)
    from_here = int(before) if before.isdecimal() and len(before) < 19 else None
    found = log.newest(who=who or None, act=act or None, before=from_here, limit=LIMIT + 1)
    rows = [one.shown() for one in found[:LIMIT]]
    older = found[LIMIT - 1].seq if len(found) > LIMIT else None
    return flask.render_template("pijobs/audit.html", rows=rows, who=who, act=act, older=older, first=from_here is None)
