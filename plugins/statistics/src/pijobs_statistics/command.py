"""``pijobs statistics``."""

from __future__ import annotations

import json
from typing import Any

import click

from pijobs.base.files import looks
from pijobs_statistics.output import as_csv, as_json, query


@click.command()
@click.argument("name", required=False)
@click.option("--per", type=click.Choice(["minute", "hour", "day"]), default="hour", show_default=True, help="Period.")
@click.option("--since", help="Start: ISO 8601, or seconds since the epoch. Default: a day ago.")
@click.option("--until", help="End, in the same format. Default: now.")
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv_", is_flag=True, help="Print CSV.")
@click.pass_obj
@looks
def statistics(
    invocation: Any, name: str | None, per: str, since: str | None, until: str | None, as_json_: bool, as_csv_: bool
) -> None:
    """Show counts by period (in UTC), name and tags."""
    from pijobs_statistics.store import Store

    try:
        chosen = query(name, per, since, until)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(str(error)) from None
    rows = Store.of(invocation.settings()).read(**chosen)
    if as_json_:
        click.echo(json.dumps(as_json(rows), indent=2))
    elif as_csv_:
        click.echo(as_csv(rows), nl=False)
    else:
        for row in as_json(rows):
            tags = " ".join(f"{tag}={value}" for tag, value in row["tags"].items())
            click.echo(f"{row['start']}  {row['name']} {tags}  {row['value']} in {row['count']} records")
        if not rows:
            click.echo("nothing was counted in this time")
