"""``pijobs schedule``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any
from zoneinfo import ZoneInfo

import click

from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, audit, pass_invocation, who
from pijobs.observe.schedule import run_now, scheduled, skip
from pijobs.plugins.hookspecs import Scheduled


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
@pass_invocation
def schedule(invocation: Invocation, ctx: click.Context, as_json: bool) -> None:
    """List what happens at certain times: the next time in its time zone, and the last run with its outcome."""
    if ctx.invoked_subcommand is None:
        _show(invocation, as_json)


@schedule.command()
@click.argument("name")
@pass_invocation
def run(invocation: Invocation, name: str) -> None:
    """Run the periodic job NAME now, in addition to its schedule."""
    invocation.storage()
    id = run_now(invocation.queue(), name)
    audit(invocation.queue().settings, "schedule.run", on=name, fields=[id])
    click.echo(f"{name}: enqueued as {id}")


@schedule.command(name="skip")
@click.argument("name")
@pass_invocation
def leave_out(invocation: Invocation, name: str) -> None:
    """Skip the next run of the periodic job NAME. Deleting its record (jobs purge) undoes it."""
    invocation.storage()
    due = skip(invocation.queue(), name, by=who())
    audit(invocation.queue().settings, "schedule.skip", on=name)
    click.echo(f"{name}: the time {_moment(due, invocation.queue().registry[name].timezone)} is skipped")


@looks
def _show(invocation: Invocation, as_json: bool) -> None:
    invocation.storage()  # raises if there is none
    rows = [_shown(row) for row in scheduled(invocation.queue())]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        missed = "missed times are made good once" if row["missed"] == "once" else "missed times are left out"
        when = f" ({row['when']})" if row["when"] else ""
        ended = f" {row['state']}" if row["state"] else ""
        skipped = "".join(f"{time} is skipped, " for time in row["skipped"])
        why = f": {row['reason']}" if row["reason"] else ""
        click.echo(
            f"{row['name']}{when}: next {row['next'] or 'not within a year'} ({row['timezone']}), {skipped}", nl=False
        )
        click.echo(f"last {row['last'] or 'never'}{ended}{why}; {missed}")
    if not rows:
        click.echo("no periodic jobs; @job(…, schedule=crontab(…)) makes one")


def _shown(row: Scheduled) -> dict[str, Any]:
    times = {"next": _moment(row.next, row.timezone), "last": _moment(row.last, row.timezone)}
    return {**dataclasses.asdict(row), **times, "skipped": [_moment(time, row.timezone) for time in row.skipped]}


def _moment(moment: int | None, timezone: str) -> str | None:
    zone = dt.timezone.utc if timezone == "UTC" else ZoneInfo(timezone)
    return None if moment is None else dt.datetime.fromtimestamp(moment / 1000, zone).isoformat(timespec="minutes")
