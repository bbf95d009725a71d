"""A setting that does not carry the plugin's name."""

from __future__ import annotations

from pijobs import Setting, hookimpl


@hookimpl
def register_settings() -> list[Setting]:
    return [Setting(name="PI_JOB_QUEUE_OTHER_X", default="", expected="a text", help="", accepts=lambda v: True)]
