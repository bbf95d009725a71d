"""``pijobs schema …``: the tables, and the protocol that releases speak on one storage."""

from __future__ import annotations

import click
from click import Choice

from pijobs.cli.invocation import Invocation, pass_invocation
from pijobs.errors import ConfigurationError
from pijobs.observe.sealing import seal_anew
from pijobs.payload.codec import VERSION
from pijobs.request.queue import Queue
from pijobs.storage import protocol
from pijobs.storage.contract import Storage

#: An example of a URL for each kind of database.
_URLS = {
    "sqlite": "sqlite:////queue.sqlite",
    "postgresql": "postgresql+psycopg://pijobs@localhost/pijobs",
    "mariadb": "mysql+pymysql://pijobs@localhost/pijobs",
}


@click.group(invoke_without_command=True)
@click.option(
    "--dialect", "kind", type=Choice(sorted(_URLS)), help="Kind of database (default: that of PI_JOB_QUEUE_URL)."
)
@click.option("--user", help="Who gets the rights (default: the user in PI_JOB_QUEUE_URL).")
@click.pass_context
def schema(context: click.Context, kind: str | None, user: str | None) -> None:
    """Print the SQL that creates the queue's tables and grants the rights on them.

    Use it if a database administrator creates tables. The user of the queue then needs no right to create tables.
    """
    if context.invoked_subcommand is not None:
        return
    invocation = context.ensure_object(Invocation)
    url = _URLS[kind] if kind else invocation.settings().storage_url
    if not url.startswith(("sqlite", "postgresql", "mysql", "mariadb")):
        raise ConfigurationError(
            "expected PI_JOB_QUEUE_URL to name a SQL database, found another storage; choose a database by --dialect"
        )
    from pijobs.storage.sql.tables import script

    click.echo(script(url, user))


@schema.command()
@pass_invocation
def upgrade(invocation: Invocation) -> int:
    """Use the format of this release, after the last process of the previous release has ended.

    Refused while a worker of that release lives. Its servers give no sign of life, so restart them first.
    """
    queue = invocation.queue()
    storage = _known(queue)
    if storage.protocol == protocol.NEWEST:
        click.echo(f"{storage.display_url} has protocol {protocol.NEWEST} already")
        return 0
    if older := _workers_below(storage, protocol.NEWEST):
        click.echo(f"refused: these workers are of an older release, which could not read it: {', '.join(older)}")
        click.echo("restart them with this release, then run the command again")
        return 1
    storage.set_protocol(protocol.NEWEST, oldest_reader=protocol.NEWEST)
    click.echo(f"{storage.display_url} has protocol {protocol.NEWEST} now; processes use it when they connect again")
    return 0


@schema.command()
@click.option("--tables", is_flag=True, help="SQL: if nothing is left, drop the columns of this release, too.")
@pass_invocation
def downgrade(invocation: Invocation, tables: bool) -> int:
    """Return to the format of the previous release, before you start that release again.

    Rewrites the waiting instances. Connected processes may still write the format of this release: stop them, and run
    the command again. It prints how many instances are left.
    """
    queue = invocation.queue()
    storage = _known(queue)
    storage.set_protocol(protocol.OLDEST, oldest_reader=protocol.OLDEST)
    found = seal_anew(storage, queue.codec(), lambda envelope: envelope.version == VERSION)
    click.echo(f"{storage.display_url} has protocol {protocol.OLDEST} now; {found.done} instances were rewritten")
    for why, number in found.unreadable.items():
        click.echo(f"{number} can't be rewritten here: {why}")
    if found.left or found.unreadable:
        click.echo(f"{found.left} are left, which run or changed just now; run the command again before you step back")
        return 1
    if tables and (step_down := getattr(storage, "step_down", None)) is not None:
        step_down()
        click.echo("the tables are those of the release before")
    return 0


def _known(queue: Queue) -> Storage:
    """The storage, after it has read its protocol."""
    storage = queue.storage
    assert storage is not None
    storage.ping()
    return storage


def _workers_below(storage: Storage, number: int) -> list[str]:
    infos = [record.info for record in storage.sessions()]
    return [f"{info.host} pid {info.pid} ({info.version})" for info in infos if info.protocol < number]
