"""A hook with a typing error in its name."""

from __future__ import annotations

from pijobs import Job, Settings, hookimpl


@hookimpl
def register_job(settings: Settings) -> list[Job]:
    return []
