"""``pijobs demo``."""

from __future__ import annotations

import click

from pijobs_mail.demo import Demo, DemoFailed


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
    """See a mail leave the request: server, worker and a slow SMTP server, on the embedded storage."""
    try:
        with Demo(delay=delay, say=click.echo) as running:
            running.show()
            if not once:
                running.stay()
    except DemoFailed as error:
        raise click.ClickException(str(error)) from None
