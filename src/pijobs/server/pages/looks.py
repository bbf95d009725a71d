"""Name, colour and logo of the pages, and the link to the host application."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import flask

from pijobs.flask import current_installation
from pijobs.server.host import host_sign_in
from pijobs.server.pages.languages import _
from pijobs.server.pages.web_session import PAGES
from pijobs.settings import Settings
from pijobs.settings.pages import contrast

#: Background of the dark pages, and least contrast of links on it.
_NIGHT, _CONTRAST = "#1b1e22", 6.0


@dataclass(frozen=True, slots=True)
class Looks:
    """The header of each page. :ivar home: address of the host application; empty: none."""

    name: str
    logo: str
    coloured: bool
    host: str = ""
    home: str = ""


def looks() -> Looks:
    """The header for this request."""
    settings, host = current_installation().settings, host_sign_in()
    logo = flask.url_for(f"{PAGES}.logo") if settings.pages_logo else ""
    name, home = settings.pages_name, ""
    if host is not None and host.name:
        name = name or f"{host.name} · {_('Job queue')}"
        home = flask.request.script_root.removesuffix(host.mount) + "/"
    shown = name or settings.name
    return Looks(shown, logo, bool(settings.pages_colour), "" if host is None else host.name, home)


def add_to(blueprint: flask.Blueprint) -> None:
    blueprint.get("/logo")(logo)
    blueprint.get("/colours.css")(colours)


def logo() -> flask.Response:
    """The file of ``PI_JOB_QUEUE_PAGES_LOGO``."""
    file = current_installation().settings.pages_logo
    if not file or not Path(file).is_file():
        flask.abort(404)
    kind = "image/svg+xml" if Path(file).suffix == ".svg" else "image/png"
    return flask.Response(Path(file).read_bytes(), mimetype=kind)


def colours() -> flask.Response:
    """The style for ``PI_JOB_QUEUE_PAGES_COLOUR``, in the light and the dark theme."""
    return flask.Response(style(current_installation().settings), mimetype="text/css")


def style(settings: Settings) -> str:
    day = settings.pages_colour
    if not day:
        return ""
    night = lighter(day)
    return (
        f":root {{ --accent: {day}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ --accent: {night}; --on-accent: #131518; }} }}\n"
    )


def lighter(colour: str) -> str:
    """The colour, mixed with just enough white to be legible on the dark pages."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    for share in range(0, 101, 5):
        mixed = "#" + "".join(f"{round(part + (255 - part) * share / 100):02x}" for part in parts)
        if contrast(mixed, _NIGHT) >= _CONTRAST:
            return mixed
    return "#ffffff"
