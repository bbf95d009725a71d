"""``pijobs jobs …``: the instances."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from pijobs.base.files import looks
from pijobs.base.redact import describe
from pijobs.cli.bulk import cancel, purge, retry
from pijobs.cli.invocation import Invocation, audit, pass_invocation, tell_if_away
from pijobs.cli.selection import filter_options, selection
from pijobs.errors import EncodeError, PijobsError
from pijobs.execution.verdict import frames_of
from pijobs.jobs import State
from pijobs.observe import instances, life, lists, people
from pijobs.observe.facts import STATE_ORDER
from pijobs.plugins.registry import Registry
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage

#: Rows of a page.
MOST = 10_000
STATES = [state.value for state in STATE_ORDER]


@click.group()
def jobs() -> None:
    """The job instances, in the storage and in the spool of this machine: find, list, show, run, retry, cancel,
    purge."""


@jobs.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only this state.")
@filter_options
@click.option("--limit", type=click.IntRange(1, MOST), default=50, help="Show at most this many (default 50).")
@click.option("--all", "everything", is_flag=True, help="Show all that match, however many.")
@click.option("--cursor", help="Continue after an earlier list, which printed this cursor.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
@looks
def list_jobs(invocation: Invocation, /, as_json: bool, **filters: Any) -> int:
    """List instances: running and waiting ones first, and in each state the newest first.

    Exit code 3 if the storage does not answer: then only the spool of this machine is listed.

    To find out why a user's mail did not come: 'pijobs jobs find USER@EXAMPLE.COM', then 'pijobs jobs show ID'.
    """
    queue = invocation.queue()
    places, away = queue.places.within_reach()
    try:
        rows, cursor = _listed(queue, places, **filters)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        for row in rows:
            words = [row["label"], "(spool)" if row["place"] == "spool" else None, row["reason"] or row["afterwards"]]
            more = "".join(f"  {word}" for word in words if word)
            click.echo(f"{row['id']}  {row['state']:9}  {row['name']:20}  {row['created']}{more}")
        if not rows:
            click.echo("no instances")
    if cursor is not None:
        click.echo(f"there may be more: --cursor {cursor}", err=True)
    return tell_if_away(away)


def _listed(
    queue: Queue, places: Sequence[Storage], state: str | None, limit: int, everything: bool, **filters: Any
) -> tuple[list[dict[str, Any]], str | None]:
    """So many as the limit, or ``everything``; and where the next page begins.

    A page may hold fewer than asked for, as one reads only so many records for a reason that few of them have.

    :raises ValueError: for a cursor that is none.
    """
    rows, cursor = list[dict[str, Any]](), filters.pop("cursor")
    by, only = {name: filters[name] for name in ("name", "group", "subject")}, selection((), dict(filters))
    while True:
        wanted = MOST if everything else limit - len(rows)
        page, cursor = lists.listing(
            queue, state=State(state) if state else None, limit=wanted, places=places, only=only, cursor=cursor, **by
        )
        rows += page
        if cursor is None or (not everything and len(rows) >= limit):
            return rows, cursor


@jobs.command()
@click.argument("who")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
@looks
def find(invocation: Invocation, who: str, as_json: bool) -> int:
    """Show what happened to the newest messages of a person, in one sentence each. WHO is a user's login name, an
    address or a number.

    Exit code 3 if the storage does not answer: then only the spool of this machine is searched.
    """
    queue = invocation.queue()
    places, away = queue.places.within_reach()
    rows = people.messages(queue, who, places=places)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return tell_if_away(away)
    for row in rows:
        click.echo(f"{row['created']}  {row['id']}  {row['label'] or row['name']}: {row['told']}")
    if not rows:
        click.echo(f"no message is known for that user, address or number. {people.what_is_kept(queue)}")
    return tell_if_away(away)


@jobs.command()
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
@looks
def show(invocation: Invocation, id: str, as_json: bool) -> None:
    """Show the life of one instance: each attempt and its outcome, why it waits, and what happens next."""
    row = instances.explained(invocation.queue(), id)
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    for line in life.life(row):
        click.echo(line)


@jobs.command()
@click.argument("name")
@click.argument("arguments", metavar="[KEY=VALUE]...", nargs=-1)
@pass_invocation
def run(invocation: Invocation, name: str, arguments: tuple[str, ...]) -> int:
    """Run a job once, in this process and in the context of the app, without a worker.

    The parameter's annotation decides how a value is read: as text, else as JSON or a date.
    """
    app, installation = invocation.host()
    queue = installation.queue
    kwargs = {}
    for argument in arguments:
        key, given, text = argument.partition("=")
        if not given:
            raise click.UsageError(f"expected KEY=VALUE, found {argument!r}")
        kwargs[key] = value_of(queue.registry, name, key, text)
    audit(queue.settings, "job.run", on=name)
    try:
        with app.app_context():
            queue.run(name, kwargs=kwargs)
    except PijobsError:
        raise
    except Exception as error:
        click.echo("\n".join([f"{name} failed: {describe(error)}", *frames_of(error)]), err=True)
        return 1
    click.echo(f"{name}: done")
    return 0


def value_of(registry: Registry, name: str, key: str, text: str) -> Any:
    """Convert a text from the command line: the first conversion that the parameter's annotation accepts."""
    for read in (str, json.loads, dt.date.fromisoformat, dt.datetime.fromisoformat):
        with suppress(ValueError, EncodeError):
            value: Any = read(text)
            registry.check_argument(name, key, value)
            return value
    return text  # the call reports what is wrong with it


for command in (retry, cancel, purge):
    jobs.add_command(command)
