"""``/livez``, ``/readyz`` and ``/metrics``, for the server and, by ``--http``, for the worker.

They need no login, since what asks them has none; they tell names of jobs, groups and hosts, and nothing of users.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import flask
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from pijobs import status
from pijobs.factory import Installation
from pijobs.flask import EXTENSION, current_queue
from pijobs.queue import Queue
from pijobs.server.api import answer

blueprint = flask.Blueprint("pijobs_health", __name__)


@blueprint.get("/livez")
def livez() -> flask.Response:
    """200 as long as the process answers."""
    return answer({"status": "OK"})


@blueprint.get("/readyz")
def readyz() -> flask.Response:
    """200, or 503 with each check by name, what it found and what to do."""
    checks = status.readiness(current_queue())
    ready = all(result.ok for _, result in checks)
    rows = {
        name: {"ok": result.ok, "message": result.message, "advice": result.advice if not result.ok else ""}
        for name, result in checks
    }
    return answer({"status": "ready" if ready else "not ready", "checks": rows}, 200 if ready else 503)


@blueprint.get("/metrics")
def metrics() -> flask.Response:
    """The text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(current_queue()))
    return flask.Response(generate_latest(registry), mimetype="text/plain; version=0.0.4")


class _Collector:
    """Reads the status when Prometheus asks."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        found = status.overview(self._queue)
        reachable = bool(found["reachable"] and found["storage"])
        yield GaugeMetricFamily("pijobs_storage_up", "Whether the storage of the queue answers.", float(reachable))
        yield GaugeMetricFamily(
            "pijobs_fallbacks", "Jobs of this process that took a fallback.", float(self._queue.outage.fallbacks)
        )
        if not reachable:
            return
        instances = GaugeMetricFamily("pijobs_instances", "Job instances.", labels=["job", "state"])
        oldest = GaugeMetricFamily("pijobs_oldest_due_seconds", "Wait of the oldest due instance.", labels=["job"])
        for job, row in found["jobs"].items():
            for state in status.STATE_ORDER:
                instances.add_metric([job, state.value], row.get(state.value, 0))
            oldest.add_metric([job], row.get("oldest_age", 0.0))
        yield instances
        yield oldest
        yield GaugeMetricFamily("pijobs_worker_processes", "Live worker processes.", len(found["workers"]))
        yield GaugeMetricFamily("pijobs_paused", "Whether the queue is paused.", float(found["paused"]))
        if found["worker_seen_age"] is not None:
            yield GaugeMetricFamily(
                "pijobs_worker_seen_seconds", "Seconds since the last sign of life of a worker.",
                found["worker_seen_age"],
            )  # fmt: skip


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
