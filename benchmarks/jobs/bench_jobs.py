"""The job of the benchmarks, as a dotted-module plugin."""

from __future__ import annotations

from typing import Any

from pijobs import Job, hookimpl


def nothing(
    config: dict[str, Any],
    recipient: list[str],
    subject: str,
    body: str,
    sender: str,
    reply_to: str | None,
    mimetype: str,
) -> None:
    """A job that does nothing."""


@hookimpl
def register_jobs(settings: Any) -> list[Job]:
    return [Job("bench.nothing", nothing)]
