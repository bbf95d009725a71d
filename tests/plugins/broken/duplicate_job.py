"""A job that another plugin brings, too."""

from __future__ import annotations

from pijobs import Job, Settings, hookimpl


@hookimpl
def register_jobs(settings: Settings) -> list[Job]:
    return [Job("duplicate.own", print), Job("good.shout", print)]
