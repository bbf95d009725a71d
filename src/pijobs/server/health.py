"""``/livez``, ``/readyz`` and ``/metrics``, for the server and, by ``--http``, for the worker.

They need no login, since what asks them has none; they tell names of jobs, groups and hosts, and nothing of users.
"""

from __future__ import annotations

import threading
from typing import Any

import flask

from pijobs.factory import Installation
from pijobs.flask import EXTENSION, current_queue
from pijobs.readiness import readiness
from pijobs.server.api import answer
from pijobs.server.exposition import exposition

blueprint = flask.Blueprint("pijobs_health", __name__)


@blueprint.get("/livez")
def livez() -> flask.Response:
    """200 as long as the process answers."""
    return answer({"status": "OK"})


@blueprint.get("/readyz")
def readyz() -> flask.Response:
    """200, or 503 with each check by name, what it found and what to do."""
    checks = readiness(current_queue())
    ready = all(result.ok for _, result in checks)
    rows = {
        name: {
            "ok": result.ok,
            "warning": result.warning,
            "message": result.message,
            "advice": result.advice if result.warning or not result.ok else "",
        }
        for name, result in checks
    }
    return answer({"status": "ready" if ready else "not ready", "checks": rows}, 200 if ready else 503)


@blueprint.get("/metrics")
def metrics() -> flask.Response:
    """The text format of Prometheus."""
    return flask.Response(exposition(current_queue()), mimetype="text/plain; version=0.0.4")


def serve_health(installation: Installation, address: tuple[str, int]) -> int:
    """Answer the three routes from a thread of this process. Returns the port.

    :raises OSError: when the address is taken.
    """
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *args: Any, **kwargs: Any) -> None:
            """A probe every few seconds is no news."""

    app = flask.Flask("pijobs.health")
    app.extensions[EXTENSION] = installation
    app.register_blueprint(blueprint)
    server = make_server(*address, app, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, name="pijobs-health", daemon=True).start()
    return int(server.server_port)
