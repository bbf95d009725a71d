"""A job whose name breaks the rule."""

from __future__ import annotations

from pijobs import Job, Settings, hookimpl


@hookimpl
def register_jobs(settings: Settings) -> list[Job]:
    return [Job("Shout", print)]
