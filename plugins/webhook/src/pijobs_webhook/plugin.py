"""The hooks of this plugin."""

from __future__ import annotations

from typing import Any

from pijobs import Job, Page, Setting, Settings, hookimpl
from pijobs_webhook import jobs
from pijobs_webhook.connections import Connections
from pijobs_webhook.settings import SETTINGS


@hookimpl
def register_settings() -> list[Setting[Any]]:
    return list(SETTINGS)


@hookimpl
def register_jobs(settings: Settings) -> list[Job]:
    return jobs.register(settings)


@hookimpl
def register_pages() -> list[Page]:
    """A sentence in the overview."""
    return [Page("", "", "web hooks", "webhook.")]


@hookimpl
def worker_stopped(worker: Any) -> None:
    Connections.of(worker.queue.settings).close()
