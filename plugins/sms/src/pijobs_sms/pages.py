"""The pages of the SMS gateways."""

from __future__ import annotations

from pijobs.server.pages import PageBlueprint, definition_pages
from pijobs_sms.gateways import open_store
from pijobs_sms.presets import PRESETS
from pijobs_sms.routes import send_test


def make_pages() -> PageBlueprint:
    return definition_pages(
        open_store,
        name="sms",
        title="SMS gateways",
        thing="SMS gateway",
        columns={"provider": "Provider", "region": "Region", "fallback": "Fallback", "description": "Description"},
        recipient="Phone number",
        group="sms:",
        nothing_known="Own gateway",
        test=send_test,
        presets=PRESETS,
    )
