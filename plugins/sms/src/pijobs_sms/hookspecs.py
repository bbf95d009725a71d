"""The hook of this plugin, for other plugins."""

from __future__ import annotations

from collections.abc import Iterable

from pijobs import Settings, hookspec
from pijobs_sms.provider import Provider


@hookspec
def register_sms_providers(settings: Settings) -> Iterable[Provider]:  # type: ignore[empty-body]
    """Return providers: protocols for gateways. A second provider of a name is ignored, with an error in the log."""
