"""Nothing is wrong here."""

from __future__ import annotations

from pijobs import Job, Setting, Settings, hookimpl


def shout(text: str) -> None:
    """Do nothing, loudly."""


@hookimpl
def register_settings() -> list[Setting]:
    return [
        Setting(
            name="PI_JOB_QUEUE_GOOD_VOLUME", default=3, expected="a number", help="", accepts=lambda v: type(v) is int
        )
    ]


@hookimpl
def register_jobs(settings: Settings) -> list[Job]:
    return [Job("good.shout", shout)]
