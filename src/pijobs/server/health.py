"""``/livez``, ``/readyz``, ``/healthz`` and ``/metrics``, for the server, and for a worker with ``--http``.

Probes can't sign in, so these routes need no login. They show names of jobs, groups and hosts, and who paused a group,
but nothing about users.
"""

from __future__ import annotations

from typing import Any

import flask

from pijobs.base import threads
from pijobs.factory import Installation
from pijobs.flask import EXTENSION, current_queue
from pijobs.observe.checks import severity_of
from pijobs.observe.readiness import has_storage, readiness, takes_requests
from pijobs.server.api import answer
from pijobs.server.described import takes
from pijobs.server.exposition import exposition

#: Set in the configuration of a worker's app.
WORKER = "PIJOBS_WORKER"
blueprint = flask.Blueprint("pijobs_health", __name__)


@blueprint.get("/livez")
def livez() -> flask.Response:
    """200 as long as the process answers."""
    return answer({"status": "OK"})


@blueprint.get("/readyz")
@takes(statuses=[(503, "It can't take requests now.")])
def readyz() -> flask.Response:
    """200 if this process can take requests (a worker: if it has its storage), else 503. For load balancers."""
    queue = current_queue()
    works = flask.current_app.config.get(WORKER) and queue.storage is not None
    found = has_storage(queue) if works else takes_requests(queue)
    status = "ready" if found.ok else "not ready"
    advice = "" if found.ok else found.advice
    return answer({"status": status, "message": found.message, "advice": advice}, 200 if found.ok else 503)


@blueprint.get("/healthz")
@takes(statuses=[(503, "A critical check fails.")])
def healthz() -> flask.Response:
    """200, or 503 if a critical check fails. Lists each check with severity, message and advice. For people and
    alerts."""
    checks = readiness(current_queue())
    healthy = all(result.ok for _, result in checks)
    rows = {
        name: {
            "ok": result.ok,
            "warning": result.warning,
            "severity": severity_of(result),
            "message": result.message,
            "advice": result.advice if result.warning or not result.ok else "",
        }
        for name, result in checks
    }
    return answer({"status": "healthy" if healthy else "not healthy", "checks": rows}, 200 if healthy else 503)


@blueprint.get("/metrics")
@takes(media=["text/plain"])
def metrics() -> flask.Response:
    """The text format of Prometheus."""
    return flask.Response(exposition(current_queue()), mimetype="text/plain; version=0.0.4")


def serve_health(installation: Installation, address: tuple[str, int]) -> int:
    """Serve these routes from a thread of this process. Returns the port.

    :raises OSError: if the address is in use.
    """
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *args: Any, **kwargs: Any) -> None:
            """Log no requests: probes come every few seconds."""

    app = flask.Flask("pijobs.health")
    app.extensions[EXTENSION] = installation
    app.config[WORKER] = True
    app.register_blueprint(blueprint)
    server = make_server(*address, app, threaded=True, request_handler=Quiet)
    threads.Thread(target=server.serve_forever, name="pijobs-health", daemon=True).start()
    return int(server.server_port)
