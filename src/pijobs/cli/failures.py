"""``pijobs failures``: what failed, by reason."""

from __future__ import annotations

import json
from typing import Any

import click

from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, pass_invocation, tell_if_away
from pijobs.cli.selection import Duration, selection
from pijobs.jobs import State
from pijobs.observe.activity import by_reason


@click.command()
@click.option("--since", type=Duration(), default="1h", show_default=True, help="How far back: 90s, 10m, 2h, 7d.")
@click.option("--name", help="Only this job.")
@click.option("--group", help="Only this group (the destination of the job), such as smtp:main.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
@looks
def failures(invocation: Invocation, /, as_json: bool, **filters: Any) -> int:
    """Count dead and expired instances by job and reason, the most frequent first.

    To retry all of one reason: 'pijobs jobs retry --because TEXT --since 1h'.
    """
    queue = invocation.queue()
    places, away = queue.places.within_reach()
    chosen = selection((State.DEAD, State.EXPIRED), {**filters, **dict.fromkeys(("subject", "because", "older_than"))})
    rows = by_reason(places[0].now(), (record for _, record in chosen.find(queue, places)))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return tell_if_away(away)
    for row in rows:
        click.echo(f"{row['number']:6}  {row['name']} {row['state']}  {row['reason']}  ({row['id']}, {row['ended']})")
    if not rows:
        click.echo("nothing failed")
    return tell_if_away(away)
