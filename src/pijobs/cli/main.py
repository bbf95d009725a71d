"""``pijobs`` and ``privacyidea-queue-huey``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pijobs.base.redact import redact
from pijobs.base.requirements import unmet
from pijobs.cli.invocation import Invocation, version_option
from pijobs.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    PijobsError,
    PluginError,
    QueueUnavailable,
    SettingsError,
    StorageDamaged,
    StorageUnavailable,
    StorageUnfit,
)
from pijobs.logs.configuration import log_warnings

if TYPE_CHECKING:
    import flask

_EXIT_CODES: tuple[tuple[type[PijobsError], int], ...] = (
    (ConfigurationError, 2),
    (PluginError, 4),
    (StorageUnfit, 2),
    (StorageDamaged, 1),
    (StorageUnavailable, 3),
    (DatabaseUnavailable, 3),
    (QueueUnavailable, 3),
    (PijobsError, 1),
)


#: The commands of pijobs and their modules in :mod:`pijobs.cli`. Each module is imported when its command is called:
#: most commands need neither Flask nor huey, whose import takes longer than the command.
_MODULES = {
    "admin": ("admin",),
    "audit": ("audit",),
    "check": ("check",),
    "config": ("config",),
    "completion": ("completion",),
    "dev": ("dev",),
    "drill": ("drill",),
    "failures": ("failures",),
    "jobs": ("jobs",),
    "keys": ("keys",),
    "move": ("move",),
    "new_plugin": ("new-plugin",),
    "plugins": ("plugins",),
    "schedule": ("schedule",),
    "schema": ("schema",),
    "server": ("server",),
    "shell": ("shell",),
    "status": ("status", "workers", "groups", "pause", "resume", "flush", "bypass", "drain"),
    "quiet": ("quiet",),
    "worker": ("worker",),
}
_MODULE_OF = {command: module for module, commands in _MODULES.items() for command in commands}


class RootGroup(click.Group):
    """Accepts ``--config`` anywhere, and loads the commands of plugins only if they may be needed."""

    _asked = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, config_first(args))

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._ask_plugins(ctx)
        return sorted([*_MODULE_OF, *self.commands])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if module := _MODULE_OF.get(cmd_name):
            command = getattr(importlib.import_module(f"pijobs.cli.{module}"), cmd_name.replace("-", "_"))
            assert isinstance(command, click.Command)
            return command
        self._ask_plugins(ctx)
        return super().get_command(ctx, cmd_name)

    def _ask_plugins(self, ctx: click.Context) -> None:
        if not self._asked:
            self._asked = True
            invocation = _invocation(ctx)
            invocation.tell_failed(invocation.plugins)
            invocation.plugins.call("register_commands", cli=self)
            for name in _MODULE_OF.keys() & self.commands.keys():
                del self.commands[name]
                click.echo(f"warning: a plugin gives a command named {name!r}; pijobs' own one stays", err=True)


def _invocation(ctx: click.Context) -> Invocation:
    """The invocation of this call. Plugin commands are loaded before the group itself is called."""
    if ctx.obj is None:
        ctx.obj = Invocation(ctx.params.get("config"), ctx.params.get("app"))
    invocation: Invocation = ctx.obj
    return invocation


def config_first(args: Sequence[str]) -> list[str]:
    """The arguments with ``--config FILE`` and ``--app …`` moved to the front from any place before ``--``."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(args)
    for arg in waiting:
        if arg == "--":
            rest += [arg, *waiting]
        elif arg in ("--config", "--app"):
            if (value := next(waiting, None)) is None:
                raise click.UsageError(f"Option '{arg}' requires an argument.")
            front += [arg, value]
        elif arg.startswith(("--config=", "--app=")):
            front.append(arg)
        else:
            rest.append(arg)
    return front + rest


@click.group(cls=RootGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    metavar="FILE",
    is_eager=True,  # before --help, which lists the commands of the plugins that this file allows
    help="The pi.cfg (before or after the command). Else PRIVACYIDEA_CONFIGFILE, /etc/privacyidea/pi.cfg, ./pi.cfg.",
)
@click.option(
    "--app",
    metavar="MODULE:FACTORY",
    is_eager=True,
    help="Use the settings of this Flask app, found as flask does (before or after the command). It needs no pi.cfg.",
)
@version_option
@click.pass_context
def cli(ctx: click.Context, config: str | None, app: str | None) -> None:
    """The job queue: it moves slow work out of the request and loses none of it.

    Exit codes: 0 ok, 1 failure at run time, 2 usage or configuration, 3 storage unreachable, 4 a plugin failed.
    """
    _invocation(ctx)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The command ``pijobs``."""
    _run(cli, args, "pijobs")


def worker_main(args: Sequence[str] | None = None) -> NoReturn:
    """The command ``privacyidea-queue-huey``: the same as ``pijobs worker``."""
    from pijobs.cli.worker import worker

    _run(worker, args, "privacyidea-queue-huey")


def flask_main(app: flask.Flask, args: Sequence[str], app_path: str | None = None) -> NoReturn:
    """The command ``flask jobs``: the commands of ``pijobs``, with the settings of the app. ``flask jobs list`` is
    short for ``flask jobs jobs list``.

    :param app_path: the app that flask was told to use; None if flask found it by itself.
    """
    from pijobs.cli.jobs import jobs

    if args and args[0] in jobs.commands:
        args = ["jobs", *args]
    _run(cli, args, "flask jobs", Invocation(app_path=app_path, app=app))


def _run(
    command: click.Command, args: Sequence[str] | None, name: str, invocation: Invocation | None = None
) -> NoReturn:
    log_warnings()
    try:
        result: Any = command.main(args, prog_name=name, standalone_mode=False, obj=invocation)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("aborted", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ImportError:
        if not (missing := unmet("pijobs")):
            raise
        for line in missing:
            click.echo(f"{name}: {line}", err=True)
        sys.exit(2)
    except PijobsError as error:
        for line in str(error).splitlines():
            # Errors of settings are already masked. Masking again would hide a wrong number.
            click.echo(f"{name}: {line if isinstance(error, SettingsError) else redact(line)}", err=True)
        sys.exit(next(code for kind, code in _EXIT_CODES if isinstance(error, kind)))
    sys.exit(result if isinstance(result, int) else 0)
