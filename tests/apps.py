"""An application with a queue in memory, where nobody works, for the tests of plugins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask

from pijobs import Settings
from pijobs.flask import JobQueue


def app_in_memory(folder: Path, *plugins: str, **settings: Any) -> flask.Flask:
    """:param folder: for the database of the definitions; its name is that of the queue."""
    app = flask.Flask("test")
    app.config.update(
        SECRET_KEY="x" * 32,
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder}/pijobs.sqlite",
        PI_JOB_QUEUE_CLASS="pijobs.HueyQueue",
        PI_JOB_QUEUE_URL="memory://",
        PI_JOB_QUEUE_NAME=folder.name,
        PI_JOB_QUEUE_PLUGINS=[*plugins],
        **settings,
    )
    JobQueue().init_app(app, directory=folder)
    return app


@dataclass
class Invocation:
    """What a plugin's command gets of the command line."""

    given: Settings

    def settings(self) -> Settings:
        return self.given
