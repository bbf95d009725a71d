"""``pijobs schema``."""

from __future__ import annotations

import click
from click import Choice

from pijobs.cli.invocation import Invocation, pass_invocation
from pijobs.errors import ConfigurationError
from pijobs.settings import storage_url

#: An example of a URL for each kind of database.
_URLS = {
    "sqlite": "sqlite:////queue.sqlite",
    "postgresql": "postgresql+psycopg://pijobs@localhost/pijobs",
    "mariadb": "mysql+pymysql://pijobs@localhost/pijobs",
}


@click.command()
@click.option(
    "--dialect", "kind", type=Choice(sorted(_URLS)), help="Kind of database (default: that of PI_JOB_QUEUE_URL)."
)
@click.option("--user", help="Who gets the rights (default: the user in PI_JOB_QUEUE_URL).")
@pass_invocation
def schema(invocation: Invocation, kind: str | None, user: str | None) -> None:
    """Print the SQL that makes the queue's tables and grants the rights on them.

    For installations where somebody else makes tables. The user of the queue needs no right to create any then.
    """
    url = _URLS[kind] if kind else storage_url(invocation.settings())
    if not url.startswith(("sqlite", "postgresql", "mysql", "mariadb")):
        raise ConfigurationError(
            "expected PI_JOB_QUEUE_URL to name a SQL database, found another storage; choose a database by --dialect"
        )
    from pijobs.storage.sql.tables import script

    click.echo(script(url, user))
