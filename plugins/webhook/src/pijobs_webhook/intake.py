"""An address on this host for programs that can only post in their request: what comes is queued.

``gunicorn --bind 127.0.0.1:8089 --threads 8 'pijobs_webhook.intake:create_app()'``; then a POST to
``http://127.0.0.1:8089/<endpoint>`` is answered at once, and a worker posts its body to the endpoint.
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

#: Bytes of a body.
MOST = 1024 * 1024


def create_app(config: str | os.PathLike[str] | None = None) -> flask.Flask:
    """The app of one ``pi.cfg``.

    :param config: the file; default: as every command finds it.
    :raises SettingsError: with all faults.
    """
    path = Path(find_config(config))
    app = flask.Flask("pijobs.intake", static_folder=None)
    app.config.update(read_config(path), MAX_CONTENT_LENGTH=MOST)
    JobQueue().init_app(app, directory=path.parent, file=path)
    app.post("/<endpoint>")(take)
    return app


def take(endpoint: str) -> Response:
    """202 when it is queued (or was sent, where the storage is away); 403 for other hosts, 404 for an endpoint that the
    settings do not name, 503 when nobody takes it."""
    if not _is_this_host(flask.request.remote_addr):
        return _told(403, "only programs on this host may post here")
    queue = current_queue()
    if endpoint not in queue.settings[ENDPOINTS]:
        return _told(404, f"expected an endpoint of {ENDPOINTS}, found another one")
    call = {
        "endpoint": endpoint, "body": flask.request.get_data(), "content_type": flask.request.content_type or JSON,
    }  # fmt: skip
    try:
        handle = queue.enqueue(FORWARD, (), call)
    except (EncodeError, QueueFull, QueueUnavailable) as error:
        return _told(503, str(error))
    return _told(202, handle.id)


def _is_this_host(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return not address  # a socket of the file system, which has rights


def _told(status: int, text: str) -> Response:
    return flask.Response(f"{text}\n", status, mimetype="text/plain")
