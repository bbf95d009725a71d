"""``pijobs sms``."""

from __future__ import annotations

import click

from pijobs.definitions import preset_command
from pijobs_sms.gateways import declare, open_store
from pijobs_sms.http import PROVIDER
from pijobs_sms.presets import PRESETS
from pijobs_sms.smpp import provider as smpp


@click.group()
def sms() -> None:
    """SMS gateways."""


sms.add_command(
    preset_command(
        PRESETS,
        open_store,
        declare([PROVIDER, smpp.PROVIDER]),
        thing="SMS gateway",
        known="Twilio, Vonage, MessageBird, sipgate, ClickSend, seven, Infobip and AWS SNS",
        advice="send a test SMS from its page, or by POST /smsgateway/send_test_sms",
    )
)
