"""``pijobs jobs …``: the instances."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import click

from pijobs.base.files import looks
from pijobs.base.redact import describe
from pijobs.cli.invocation import Invocation, audit, pass_invocation, tell_if_away
from pijobs.errors import EncodeError, JobError, PijobsError, StorageUnavailable
from pijobs.execution.verdict import frames_of
from pijobs.jobs import ENDED, State
from pijobs.observe import instances
from pijobs.observe.status import STATE_ORDER
from pijobs.plugins.registry import Registry
from pijobs.request.queue import Queue
from pijobs.storage.contract import Record, Storage

reason_option = click.option("--reason", default="", help="Why; for the audit log.")
_DONE = {"retry": "queued again", "cancel": "cancelled", "delete": "deleted"}
STATES = [state.value for state in STATE_ORDER]


@click.group()
def jobs() -> None:
    """The job instances, in the storage and in the spool of this machine: list, show, run, retry, cancel, purge."""


@jobs.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only this state.")
@click.option("--name", help="Only this job.")
@click.option("--group", help="Only this group: what the job sends to, such as smtp:main.")
@click.option("--subject", help="Only what concerns this subject, where the job names one; mail: the recipient.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, help="At most so many (default 50).")
@click.option("--cursor", help="Go on where an earlier list ended; it told the cursor.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
@looks
def list_jobs(invocation: Invocation, /, state: str | None, limit: int, as_json: bool, **filters: Any) -> int:
    """List instances, those that run and wait first, the newest of each state first.

    Exit code 3 if the storage does not answer: then only what lies in the spool of this machine is listed.

    Why did one user's mail not come: 'pijobs jobs list --subject USER@EXAMPLE.COM', then 'pijobs jobs show ID'.
    """
    queue = invocation.queue()
    places, away = queue.places.within_reach()
    try:
        rows, cursor = instances.listing(
            queue, state=State(state) if state else None, limit=limit, places=places, **filters
        )
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
            click.echo("no instances" if cursor is None else "none so far")
    if cursor is not None:
        click.echo(f"there may be more: --cursor {cursor}", err=True)
    return tell_if_away(away)


@jobs.command()
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
@looks
def show(invocation: Invocation, id: str, as_json: bool) -> None:
    """Tell the life of one instance: each attempt and what came of it, why it waits, and what happens next."""
    row = instances.explained(invocation.queue(), id)
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    for line in instances.life(row):
        click.echo(line)


@jobs.command()
@click.argument("name")
@click.argument("arguments", metavar="[KEY=VALUE]...", nargs=-1)
@pass_invocation
def run(invocation: Invocation, name: str, arguments: tuple[str, ...]) -> int:
    """Run a job here and now, in this process, in the context of the app: once, and by no worker.

    A value is what the parameter's annotation wants: a text as it is, else JSON or a date.
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
    """What a text on the command line means for a parameter: the first of these that its annotation takes."""
    for read in (str, json.loads, dt.date.fromisoformat, dt.datetime.fromisoformat):
        with suppress(ValueError, EncodeError):
            value: Any = read(text)
            registry.check_argument(name, key, value)
            return value
    return text  # the call says what is wrong with it


@jobs.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@reason_option
@pass_invocation
def retry(invocation: Invocation, ids: tuple[str, ...], reason: str) -> int:
    """Queue dead letters again."""
    queue = invocation.queue()
    return _each(queue, "retry", ids, reason, lambda id: instances.retry(queue, id))


@jobs.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@reason_option
@pass_invocation
def cancel(invocation: Invocation, ids: tuple[str, ...], reason: str) -> int:
    """Cancel waiting instances. One that runs is not touched."""
    queue = invocation.queue()
    return _each(queue, "cancel", ids, reason, queue.cancel)


@jobs.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--state", type=click.Choice([state.value for state in ENDED]), help="All of this state.")
@click.option("--name", help="With --state: only this job.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@reason_option
@pass_invocation
def purge(
    invocation: Invocation, ids: tuple[str, ...], state: str | None, name: str | None, yes: bool, reason: str
) -> int:
    """Delete the records of ended instances: these, or all of a state."""
    if bool(ids) == bool(state):
        raise click.UsageError("expected either ids or --state")
    queue = invocation.queue()
    if state is None:
        return _each(queue, "delete", ids, reason, queue.remove)
    places, away = queue.places.within_reach()
    found = [(place, record.id) for place in places for record in _records(place, State(state), name)]
    if not yes:
        click.confirm(f"delete {len(found)} records of {state} instances?", abort=True)
    for place, instance_id in found:
        with suppress(JobError):  # trimmed or retried meanwhile
            place.remove(instance_id)
    audit(queue.settings, "job.delete", on=f"{len(found)} {state}", fields=[id for _, id in found], reason=reason)
    click.echo(f"{len(found)} records deleted")
    return tell_if_away(away)


def _records(storage: Storage, state: State, name: str | None) -> Iterator[Record]:
    cursor = None
    while True:
        page = storage.page(state, name=name, cursor=cursor, limit=200)
        yield from page.records
        cursor = page.cursor
        if cursor is None:
            break


def _each(queue: Queue, name: str, ids: tuple[str, ...], reason: str, act: Any) -> int:
    """Do it for each id; what fails is said, the others go on. What was done stands in the audit log."""
    code, done = 0, []
    for instance_id in ids:
        try:
            act(instance_id)
            done.append(instance_id)
            click.echo(f"{instance_id}: {_DONE[name]}")
        except JobError as error:
            code = code or 1
            click.echo(f"{instance_id}: {error}", err=True)
        except StorageUnavailable as error:
            code = 3
            click.echo(f"{instance_id}: the storage {error.what}: {error}", err=True)
    if done:
        audit(queue.settings, f"job.{name}", on=f"{len(done)} of {len(ids)}", fields=done, reason=reason)
    return code
