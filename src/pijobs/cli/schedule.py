"""``pijobs schedule``."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any
from zoneinfo import ZoneInfo

import click

from pijobs.base import schedules
from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, pass_invocation
from pijobs.jobs import Job
from pijobs.storage.contract import Storage

#: How far ahead the next due time is looked for (ms).
_AHEAD = 366 * 24 * 60 * schedules.MINUTE


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
@looks
def schedule(invocation: Invocation, as_json: bool) -> None:
    """The periodic jobs: when each runs next, in its time zone, and for which time it was enqueued last."""
    queue, storage = invocation.queue(), invocation.storage()
    rows = [_row(job, storage) for job in queue.registry.values() if job.schedule is not None]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        missed = "missed times are made good once" if row["missed"] == "once" else "missed times are left out"
        click.echo(f"{row['name']}: next {row['next'] or 'not within a year'} ({row['timezone']}), ", nl=False)
        click.echo(f"last {row['last'] or 'never'}; {missed}")
    if not rows:
        click.echo("no periodic jobs; @job(…, schedule=crontab(…)) makes one")


def _row(job: Job, storage: Storage) -> dict[str, Any]:
    assert job.schedule is not None
    now = storage.now() // schedules.MINUTE * schedules.MINUTE + schedules.MINUTE
    comes = schedules.first(job.schedule, job.timezone, now, now + _AHEAD)
    return {
        "name": job.name,
        "next": _shown(comes, job.timezone),
        "last": _shown(storage.last_periodic(job.name), job.timezone),
        "timezone": job.timezone,
        "missed": job.missed,
    }


def _shown(moment: int | None, timezone: str) -> str | None:
    zone = dt.timezone.utc if timezone == "UTC" else ZoneInfo(timezone)
    return None if moment is None else dt.datetime.fromtimestamp(moment / 1000, zone).isoformat(timespec="minutes")
