"""``pijobs demo`` and ``pijobs mail``."""

from __future__ import annotations

import json
from typing import Any

import click

from pijobs.base.files import looks
from pijobs.definitions import preset_command
from pijobs.demo import DemoFailed
from pijobs_mail.demo import MailDemo
from pijobs_mail.servers.definitions import DEFINITIONS, open_store
from pijobs_mail.servers.presets import PRESETS
from pijobs_mail.servers.probe import Probe, Step


@click.command()
@click.option("--once", is_flag=True, help="End after both mails; exit code 1 if one did not arrive.")
@click.option(
    "--delay",
    type=click.FloatRange(0, 10),
    default=0.3,
    show_default=True,
    help="Seconds that the SMTP server of the demo waits before each reply.",
)
def demo(once: bool, delay: float) -> None:
    """Compare a mail sent in the request with a queued one: server, worker and a slow SMTP server, without Redis."""
    try:
        MailDemo(delay=delay, say=click.echo).run(once=once)
    except DemoFailed as error:
        raise click.ClickException(str(error)) from None


@click.group()
def mail() -> None:
    """SMTP servers."""


@mail.command()
@click.argument("identifier")
@click.option("--to", "recipient", metavar="ADDRESS", help="Send a test mail there, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
@looks
def probe(invocation: Any, identifier: str, recipient: str | None, as_json: bool) -> int:
    """Test the SMTP server IDENTIFIER from this machine: DNS, TCP, TLS, greeting, features, login.

    Each step shows its time, and what to do if it fails. Exit codes: 0 all steps passed, 1 a step failed.
    """
    settings = invocation.settings()
    definition = open_store(settings).get(identifier)
    examination = Probe(definition, settings, recipient, say=(lambda _: None) if as_json else _tell_step)
    ok = examination.run()
    if as_json:
        steps = [step.as_json() for step in examination.steps]
        click.echo(json.dumps({"server": identifier, "ok": ok, "steps": steps}, indent=2))
    else:
        click.echo("OK" if ok else "NOT OK")
    return 0 if ok else 1


mail.add_command(
    preset_command(
        PRESETS,
        open_store,
        DEFINITIONS,
        thing="SMTP server",
        known="Microsoft 365, Google, Amazon SES, Mailgun, Postmark and others",
        advice="'pijobs mail probe {}' examines it",
    )
)


def _tell_step(step: Step) -> None:
    click.echo(f"{'ok  ' if step.ok else 'FAIL'} {step.name:<8} {step.seconds * 1000:8.1f} ms  {step.found}")
    if step.advice:
        click.echo(f"     what to do: {step.advice}")
