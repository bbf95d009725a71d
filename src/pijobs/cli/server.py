"""``pijobs server``."""

from __future__ import annotations

import logging
import signal
from typing import Any

import click

from pijobs.base import threads
from pijobs.cli.invocation import Invocation, pass_invocation
from pijobs.errors import ConfigurationError, StorageUnavailable
from pijobs.logs.configuration import configure_log
from pijobs.request.queue import Queue

log = logging.getLogger(__name__)


@click.command()
@click.option("--host", default="127.0.0.1", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), default=5000, help="Port (default 5000; 0: a free one).")
@pass_invocation
def server(invocation: Invocation, host: str, port: int) -> None:
    """Run the server, for development. For production: gunicorn 'pijobs.server:create_app()'."""
    from werkzeug.serving import make_server

    from pijobs.flask import EXTENSION
    from pijobs.server import create_app

    if invocation.has_app:
        raise ConfigurationError("pijobs server is a server of its own, of a pi.cfg; an app is run by 'flask run'")
    app = create_app(invocation.config_path())
    configure_log(app.extensions[EXTENSION].settings, None)
    _try_out(app.extensions[EXTENSION].queue)
    try:
        listening = make_server(host, port, app, threaded=True)
    except (OSError, SystemExit) as error:
        advice = "choose another --host or --port"
        raise ConfigurationError(f"expected an address to listen on, found {host}:{port} in use; {advice}") from error
    _stop_on_signal(listening)
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"listening on http://{shown}:{listening.server_port}")
    listening.serve_forever()


def _try_out(queue: Queue) -> None:
    if queue.storage is not None:
        try:
            queue.storage.try_out()
        except StorageUnavailable as error:
            log.error("jobs take %s as long as the storage can't be used: %s", queue.settings.fallback, error)


def _stop_on_signal(listening: Any) -> None:
    def stop(signum: int, frame: Any) -> None:
        # shutdown() waits for the loop that this handler interrupts, so it can't be called here.
        threads.Thread(target=listening.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
