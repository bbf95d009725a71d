"""``pijobs privacyidea``."""

from __future__ import annotations

import click

from pijobs import Queue
from pijobs.base import threads


@click.group()
def privacyidea() -> None:
    """The job queue of a privacyIDEA server."""


@privacyidea.command()
@click.pass_obj
def doctor(invocation: object) -> None:
    """Find what prevents mails from being sent. The exit code is 1 if something does. The last line is the next step,
    or "ready"."""
    from pijobs_privacyidea.doctor import examine
    from pijobs_privacyidea.findings import Level, verdict

    findings = list(examine(invocation.settings()))  # type: ignore[attr-defined]
    for finding in findings:
        click.echo(f"{finding.level:7}  {finding.text}")
        if finding.advice:
            click.echo(f"{'':7}  {finding.advice}")
    click.echo(verdict(findings))
    if any(finding.level is Level.BAD for finding in findings):
        raise SystemExit(1)


@privacyidea.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def purge_old(invocation: object, yes: bool) -> None:
    """Delete the tasks that privacyIDEA's own queue class left in Redis: pickles, which pijobs never reads."""
    from pijobs_privacyidea.old_queue import count_old, delete_old

    settings = invocation.settings()  # type: ignore[attr-defined]
    found = count_old(settings)
    if not found:
        click.echo("none")
    elif yes or click.confirm(f"delete {sum(found.values())} jobs of the old queue ({', '.join(found)}), unread?"):
        click.echo(f"{delete_old(settings)} deleted")


@privacyidea.command()
@click.argument("name")
@click.option("--wraps", required=True, help="The gateway that sends.")
@click.option("--failover", help="A second gateway, used if the first one does not accept a message.")
@click.option(
    "--expires", type=click.IntRange(1), help="Seconds until a message expires (default: with its challenge)."
)
@click.pass_obj
def sms_gateway(invocation: object, name: str, wraps: str, failover: str | None, expires: int | None) -> None:
    """Create the gateway NAME, which queues its messages. privacyIDEA's pages can't create it."""
    from sqlalchemy.exc import SQLAlchemyError

    from pijobs_privacyidea.gateway import GatewayRefused, make_gateway

    options = {"WRAPS": wraps, "FAILOVER": failover, "EXPIRES": expires}
    given = {option: str(value) for option, value in options.items() if value}
    try:
        lines = make_gateway(invocation.settings(), name, given)  # type: ignore[attr-defined]
    except GatewayRefused as error:
        raise click.UsageError(str(error)) from None
    except SQLAlchemyError as error:
        raise click.ClickException(
            f"expected privacyIDEA's database to answer, found {type(error).__name__}; look at SQLALCHEMY_DATABASE_URI"
        ) from None
    for line in lines:
        click.echo(line)


@privacyidea.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def queue_script(invocation: object, name: str, arguments: tuple[str, ...]) -> None:
    """Queue the script NAME of PI_JOB_QUEUE_PRIVACYIDEA_SCRIPTS with these arguments. Call it from a script of
    privacyIDEA's event handler."""
    from pijobs.errors import QueueUnavailable
    from pijobs_privacyidea import scripts

    queue = invocation.queue()  # type: ignore[attr-defined]
    try:
        scripts.script_in(queue.settings, name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        # privacyIDEA's class needs its app, so it can't be used here.
        handle = Queue.enqueue(queue, scripts.NAME, (), {"script": name, "arguments": list(arguments)})
    except QueueUnavailable as error:
        raise click.ClickException(str(error)) from None
    click.echo(handle.id)


@privacyidea.command()
@click.option("--once", is_flag=True, help="End after one run.")
@click.option(
    "--delay", type=click.FloatRange(0, 10), default=0.5, help="Seconds before each SMTP reply (default 0.5)."
)
def demo(once: bool, delay: float) -> None:
    """Run a complete privacyIDEA in a temporary folder: a challenge, its mail, a sign-in, and the times."""
    from pijobs_privacyidea.demo import Demo

    with Demo(delay=delay, say=click.echo) as shown:
        shown.prepare()
        shown.show()
        if not once:
            click.echo("stop it with Ctrl-C")
            threads.Event().wait()
