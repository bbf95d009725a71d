"""A hook with a parameter that it does not have."""

from __future__ import annotations

from pijobs import Job, hookimpl


@hookimpl
def register_jobs(configuration: object) -> list[Job]:
    return []
