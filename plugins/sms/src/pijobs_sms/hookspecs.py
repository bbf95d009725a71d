"""The hook of this plugin, for others to give."""

from __future__ import annotations

from collections.abc import Iterable

from pijobs import Settings, hookspec
from pijobs_sms.provider import Provider


@hookspec
def register_sms_providers(settings: Settings) -> Iterable[Provider]:  # type: ignore[empty-body]
    """Ways to speak to gateways. A name that is taken already is left out, with an error in the log."""
