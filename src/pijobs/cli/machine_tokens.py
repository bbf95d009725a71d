"""``pijobs admin token …``: tokens for machines."""

from __future__ import annotations

import datetime as dt
import json

import click

from pijobs.base import clock
from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, audit, pass_invocation


@click.group()
def token() -> None:
    """Tokens for machines, each with a scope: add, list, remove."""


@token.command()
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True,
    help="What it may do: 'status' (read jobs, workers, groups), 'enqueue:mail.send', 'enqueue:mail.*'; repeatable.",
)  # fmt: skip
@click.option(
    "--days", type=click.FloatRange(0, 3650, min_open=True), default=365.0, help="Days until it ends (default 365)."
)
@pass_invocation
def add(invocation: Invocation, name: str, scopes: tuple[str, ...], days: float) -> None:
    """Make a token and print it once. Send it as 'Authorization: Bearer …'."""
    from pijobs.server.machines import ENQUEUE, Machines

    settings = invocation.settings()
    known = list(invocation.installation().registry)
    for scope in scopes:
        wanted = scope.removeprefix(ENQUEUE)
        if scope.startswith(ENQUEUE) and not any(f"{job}.".startswith(wanted.rstrip("*")) for job in known):
            click.echo(f"warning: no job is registered here that {scope!r} is about", err=True)
    made = Machines.of(settings).add(name, scopes, days)
    audit(settings, "token.add", on=", ".join(scopes), about=name)
    click.echo(made)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
@looks
def list_tokens(invocation: Invocation, as_json: bool) -> None:
    """List the tokens, with scope, end and last use."""
    from pijobs.server.machines import Machines

    found = Machines.of(invocation.settings()).list()
    if as_json:
        rows = [
            {"name": one.name, "scopes": one.scopes, "until": _day(one.until), "seen": _day(one.seen)} for one in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for one in found:
        life = f"{'until' if one.until > clock.time() else 'over since'} {_day(one.until)}"
        used = "never used" if one.seen is None else f"last used {_day(one.seen)}"
        click.echo(f"{one.name}  {' '.join(one.scopes)}  {life}  {used}")
    if not found:
        click.echo("no tokens; 'pijobs admin token add NAME --scope …' makes one")


@token.command()
@click.argument("name")
@pass_invocation
def remove(invocation: Invocation, name: str) -> None:
    """End a token, at once."""
    from pijobs.server.machines import Machines

    settings = invocation.settings()
    Machines.of(settings).remove(name)
    audit(settings, "token.remove", about=name)
    click.echo(f"token {name} removed")


def _day(seconds: int | None) -> str | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.timezone.utc).strftime("%Y-%m-%d %H:%M")
