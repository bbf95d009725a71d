"""A setting that belongs to pijobs itself."""

from __future__ import annotations

from pijobs import Setting, hookimpl


@hookimpl
def register_settings() -> list[Setting]:
    return [Setting(name="PI_JOB_QUEUE_URL", default="", expected="a URL", help="", accepts=lambda v: True)]
