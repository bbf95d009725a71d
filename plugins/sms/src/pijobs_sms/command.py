"""``pijobs sms``."""

from __future__ import annotations

import click

from pijobs.definitions import preset_command
from pijobs.demo import DemoFailed
from pijobs_sms.demo import SmsDemo
from pijobs_sms.gateways import declare, open_store
from pijobs_sms.http import PROVIDER
from pijobs_sms.presets import PRESETS
from pijobs_sms.smpp import provider as smpp


@click.group()
def sms() -> None:
    """SMS gateways."""


@sms.command()
@click.option("--once", is_flag=True, help="End after both SMS; exit code 1 if one did not arrive.")
@click.option(
    "--delay",
    type=click.FloatRange(0, 10),
    default=1.0,
    show_default=True,
    help="Seconds that the gateway of the demo takes to answer.",
)
def demo(once: bool, delay: float) -> None:
    """Compare an SMS sent in the request with a queued one, by a server, a worker and a slow gateway, without Redis."""
    try:
        SmsDemo(delay=delay, say=click.echo).run(once=once)
    except DemoFailed as error:
        raise click.ClickException(str(error)) from None


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
