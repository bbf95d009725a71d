"""The page with the mails of a sink, for development. It listens on this machine only, and changes nothing."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Sequence

from flask import Flask, Response, abort, render_template, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from pijobs_mail.sink.behaviour import Received

HOST, PORT = "127.0.0.1", 8025
Mails = Callable[[], Sequence[tuple[int, Received]]]

#: Mails are strangers' texts: they run no scripts and load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"


def make_app(mails: Mails) -> Flask:
    """The app of the page. :param mails: returns the mails with their numbers, the oldest first."""
    app = Flask(__name__)
    app.jinja_env.globals["shown_time"] = _shown_time

    @app.before_request
    def from_here_only() -> None:
        # A web page could resolve its own name to this machine, and read the mails (DNS rebinding).
        if request.host.partition(":")[0] not in (HOST, "localhost"):
            abort(403)

    @app.after_request
    def guard(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _POLICY
        return response

    @app.get("/")
    def all_of_them() -> str:
        return render_template("mails.html", mail=None, mails=[*reversed(mails())])

    @app.get("/<int:number>")
    def one(number: int) -> str:
        mail = dict(mails()).get(number) or abort(404)
        names = [part.get_filename() or "(no name)" for part in mail.message.iter_attachments()]
        return render_template(
            "mails.html", mail=mail, attachments=names, text=body_of(mail, "plain"), html=body_of(mail, "html"),
            source=mail.content.decode(errors="replace"),
        )  # fmt: skip

    return app


def body_of(mail: Received, kind: str) -> str | None:
    """The text of a mail, ``"plain"`` or ``"html"``; None if it has none that can be read."""
    try:
        part = mail.message.get_body((kind,))
        return None if part is None else str(part.get_content()).strip()
    except Exception:  # the library has many errors for invalid mails
        return None


def serve(mails: Mails) -> BaseWSGIServer:
    """Serve the page in a thread, at the usual port or, if that is in use, a free one."""
    app = make_app(mails)
    try:
        server = make_server(HOST, PORT, app, request_handler=_Silent)
    except (OSError, SystemExit):  # werkzeug prints the error and exits
        server = make_server(HOST, 0, app, request_handler=_Silent)
    threading.Thread(target=server.serve_forever, name="mail-page", daemon=True).start()
    return server


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Log nothing: the terminal shows the mails."""


def _shown_time(mail: Received) -> str:
    return dt.datetime.fromtimestamp(mail.at).strftime("%H:%M:%S")
