"""An address on this host for programs that can only post in their request. It queues their posts.

Start it by ``gunicorn --bind 127.0.0.1:8089 --threads 8 'pijobs_webhook.intake:create_app()'``. It answers a POST to
``http://127.0.0.1:8089/<endpoint>`` at once, and a worker posts the body to the endpoint.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import flask
from werkzeug.wrappers import Response

from pijobs.errors import EncodeError, QueueFull, QueueUnavailable
from pijobs.flask import JobQueue, current_queue
from pijobs.settings import find_config, read_config
from pijobs_webhook.jobs import FORWARD, JSON
from pijobs_webhook.settings import ENDPOINTS

#: Most bytes of a body.
MOST = 1024 * 1024


def create_app(config: str | os.PathLike[str] | None = None) -> flask.Flask:
    """The app of one ``pi.cfg``.

    :param config: path of the file; default: the file that the commands use.
    :raises SettingsError: with all faults.
    """
    path = Path(find_config(config))
    app = flask.Flask("pijobs.intake", static_folder=None)
    app.config.update(read_config(path), MAX_CONTENT_LENGTH=MOST)
    JobQueue().init_app(app, directory=path.parent, file=path)
    app.post("/<endpoint>")(take)
    return app


def take(endpoint: str) -> Response:
    """202 if it is queued (or was sent, while the storage does not answer); 403 for other hosts, 404 for an unknown
    endpoint, 503 if neither the queue nor a fallback accepts it."""
    if not _is_this_host(flask.request.remote_addr):
        return _answer(403, "only programs on this host may post here")
    queue = current_queue()
    if endpoint not in queue.settings[ENDPOINTS]:
        return _answer(404, f"expected an endpoint of {ENDPOINTS}, found another one")
    call = {
        "endpoint": endpoint, "body": flask.request.get_data(), "content_type": flask.request.content_type or JSON,
    }  # fmt: skip
    try:
        handle = queue.enqueue(FORWARD, (), call)
    except (EncodeError, QueueFull, QueueUnavailable) as error:
        return _answer(503, str(error))
    return _answer(202, handle.id)


def _is_this_host(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return not address  # a Unix socket; its file has permissions


def _answer(status: int, text: str) -> Response:
    return flask.Response(f"{text}\n", status, mimetype="text/plain")
