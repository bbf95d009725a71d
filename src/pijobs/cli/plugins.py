"""``pijobs plugins``."""

from __future__ import annotations

import json
from typing import Any

import click

from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, pass_invocation
from pijobs.errors import ConfigurationError, PluginError
from pijobs.plugins.discovery import Plugin
from pijobs.settings import CORE_SETTINGS, Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
@looks
def plugins(invocation: Invocation, as_json: bool) -> int:
    """List the installed plugins, with their state (loaded, or failed and why) and jobs. Needs no valid pi.cfg.

    Exit code 4 if a plugin failed.
    """
    invocation.told = None
    found = invocation.plugins
    try:
        settings = invocation.settings()
    except (ConfigurationError, PluginError):
        settings = Settings({}, [*CORE_SETTINGS, *found.settings()])
    found.register_jobs(settings)
    if as_json:
        click.echo(json.dumps([_row(plugin) for plugin in found.found], indent=2))
    elif not found.found:
        click.echo("no plugins are installed; 'pip install pijobs-mail' brings the mail job")
    else:
        for plugin in found.found:
            _print(plugin)
    return 4 if found.failed else 0


def _state(plugin: Plugin) -> str:
    if not plugin.allowed:
        return "not allowed"
    return "failed" if plugin.error else "loaded"


def _row(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "state": _state(plugin),
        "error": plugin.error,
        "module": plugin.module,
        "distribution": plugin.distribution or None,
        "version": plugin.version or None,
        "jobs": [job.name for job in plugin.jobs],
        "settings": [setting.name for setting in plugin.settings],
    }


def _print(plugin: Plugin) -> None:
    source = f"{plugin.distribution} {plugin.version}" if plugin.distribution else f"module {plugin.module}"
    click.echo(f"{plugin.name}: {_state(plugin)} ({source})")
    if plugin.error:
        click.echo(f"  reason: {plugin.error}")
    if not plugin.allowed:
        click.echo("  PI_JOB_QUEUE_PLUGINS does not name it")
    for job in plugin.jobs:
        click.echo(f"  job {job.name}")
