"""``pijobs config check`` and ``pijobs config show``."""

from __future__ import annotations

import json

import click

from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, pass_invocation
from pijobs.factory import Installation
from pijobs.observe.readiness import configuration
from pijobs.observe.status import fingerprint
from pijobs.plugins.hookspecs import CheckResult
from pijobs.settings.setting import masked_repr
from pijobs.storage.protocol import NEWEST


@click.group()
def config() -> None:
    """Check and show the settings."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
@looks
def show(invocation: Invocation, as_json: bool) -> None:
    """Print the effective settings; secrets are masked."""
    settings = invocation.settings()
    shown = settings.shown()
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    for name, value in shown.items():
        origin = "" if name in invocation.values else "    # default"
        if name == "SQLALCHEMY_DATABASE_URI" and (database := fingerprint(settings)) is not None:
            origin = f"    # {database.place}"
        click.echo(f"{name} = {value}{origin}")


@config.command()
@pass_invocation
@looks
def check(invocation: Invocation) -> int:
    """Validate pi.cfg and test what it names. Exit codes: 0 ok, 2 faults, 3 storage unreachable, 4 a plugin failed."""
    path = invocation.source()
    installation = invocation.installation(strict=True)
    click.echo(f"{path}: {len(installation.settings)} settings, all valid")
    click.echo(f"plugins: {', '.join(plugin.name for plugin in installation.plugins.loaded) or 'none'}")
    if installation.queue.storage is not None:
        _tell_storage(installation)
    return 1 if [*filter(_tells_failure, configuration(installation.queue))] else 0


def _tell_storage(installation: Installation) -> None:
    queue = installation.queue
    assert queue.storage is not None
    click.echo(f"queue: {queue.settings.name} in {masked_repr(installation.settings.storage_url)}")
    queue.storage.ping()  # raises StorageUnavailable: exit code 3
    queue.storage.try_out()  # raises StorageUnfit: exit code 2
    click.echo("storage: answers, and does all that the queue asks of it")
    for name, value in queue.storage.diagnose().items():
        click.echo(f"  {name}: {value}")
    more = f"; 'pijobs schema upgrade' raises it to {NEWEST} once no process of the release before is left"
    click.echo(f"  protocol: {queue.storage.protocol}{more if queue.storage.protocol < NEWEST else ''}")


def _tells_failure(check: tuple[str, CheckResult]) -> bool:
    """Print what a check found. :returns: whether it failed."""
    name, result = check
    if result.warning:
        line = f"warning: {name}: {result.message}; {result.advice}"
        click.echo(click.style(line, fg="red") if result.alarm else line, err=True)
    else:
        click.echo(f"{name}: {'ok' if result.ok else 'FAILED'}, {result.message}")
        if not result.ok:
            click.echo(f"  {result.advice}")
    return not result.ok
