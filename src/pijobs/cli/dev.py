"""``pijobs dev``: server and worker of an app together; both restart when a file changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import click

from pijobs.base import clock, processes
from pijobs.cli.invocation import Invocation, pass_invocation
from pijobs.errors import ConfigurationError
from pijobs.plugins.loading import Plugins
from pijobs.settings import PREFIX, Settings
from pijobs.settings.stand_ins import VARIABLE

#: Suffixes of files whose change restarts both, besides ``.py``.
_WATCHED = (".cfg", ".env", ".html", ".j2", ".jinja", ".jinja2", ".toml", ".yaml", ".yml")
#: Seconds that a running job has to end before the worker restarts.
_JOBS_END_WITHIN = 2
#: Seconds that all processes have to end after Ctrl-C.
_ALL_END_WITHIN = 5.0
#: Milliseconds between two checks of the processes.
_LOOK_EVERY = 500

Changes = Iterable[Sequence[str]]


class Development:
    """The processes of one ``pijobs dev``.

    :param commands: name to program and arguments.
    :param environment: variables for these programs, added to the present environment.
    :param tell: shows a line.
    """

    def __init__(
        self, commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], tell: Callable[[str], object]
    ) -> None:
        self._commands, self._tell = commands, tell
        self._environment = {**os.environ, **environment}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, changes: Changes) -> None:
        """Run until ``changes`` ends. An empty change only checks the processes."""
        try:
            self._start()
            for changed in changes:
                if changed:
                    self._tell(f"dev: {_shown(changed)} changed; server and worker restart")
                    self._end()
                    self._start()
                else:
                    self._look()
        except KeyboardInterrupt:
            # A terminal interrupts all of its programs. A second signal would cut off running jobs.
            self._wait()
        finally:
            self._end()

    def _start(self) -> None:
        for name, command in self._commands.items():
            self._running[name] = subprocess.Popen(command, env=self._environment)

    def _end(self) -> None:
        processes.end(*self._running.values())
        self._running.clear()

    def _wait(self) -> None:
        until = clock.monotonic() + _ALL_END_WITHIN
        while any(child.poll() is None for child in self._running.values()) and clock.monotonic() < until:
            clock.sleep(0.05)
        self._running = {name: child for name, child in self._running.items() if child.poll() is None}

    def _look(self) -> None:
        for name, child in [*self._running.items()]:
            if child.poll() is not None:
                del self._running[name]
                self._tell(f"dev: the {name} ended with exit code {child.returncode}; it starts with the next change")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the server.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port of the server.")
@click.option(
    "--watch",
    "folders",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Watch this folder, too, besides the working folder; repeatable.",
)
@pass_invocation
def dev(invocation: Invocation, host: str, port: int, folders: tuple[Path, ...]) -> None:
    """Run server and worker together while you develop, and restart both when a file changes.

    With --app (or 'flask jobs dev') the server is 'flask run' with its debugger, otherwise 'pijobs server'. Jobs talk
    to stand-ins: you see mails here and on a page, and they do not leave this machine.
    """
    changes = _changes([Path.cwd(), *folders])
    path = _app_path(invocation)
    installation = invocation.installation()
    commands = {
        "server": server_command(invocation, path, host, port),
        "worker": worker_command(invocation, path, installation.settings),
    }
    signal.signal(signal.SIGTERM, _leave)
    with ExitStack() as cleanup:
        cleanup.callback(click.echo, "")
        settings = stand_ins(installation.plugins, cleanup, click.echo)
        environment = {VARIABLE: json.dumps(settings)} if settings else {}
        click.echo(f"dev: server on http://{host}:{port}, and a worker; Ctrl-C ends both")
        Development(commands, environment, click.echo).run(changes)


def stand_ins(plugins: Plugins, cleanup: ExitStack, tell: Callable[[str], object]) -> dict[str, Any]:
    """Start the stand-ins of all plugins, until the clean-up. :returns: settings that use them."""
    settings: dict[str, Any] = {}
    for _, one in plugins.call("stand_in", tell=tell):
        settings |= cleanup.enter_context(one)
    return settings


def server_command(invocation: Invocation, app_path: str | None, host: str, port: int) -> list[str]:
    """The command that serves the app, or else the pages of the queue."""
    where = ["--host", host, "--port", str(port)]
    if app_path is None:
        return _pijobs(invocation, None, "server", *where)
    return [sys.executable, "-m", "flask", "--app", app_path, "run", "--debug", "--no-reload", *where]


def worker_command(invocation: Invocation, app_path: str | None, settings: Settings) -> list[str]:
    """The command of the worker. It logs to the terminal, unless ``PI_LOGCONFIG`` says otherwise."""
    config = settings.log_config
    log = [] if config and Path(config).exists() else ["--simple", "-l", "-"]
    return _pijobs(invocation, app_path, "worker", *log, "-t", str(_JOBS_END_WITHIN))


def _pijobs(invocation: Invocation, app_path: str | None, *arguments: str) -> list[str]:
    config = ["--config", str(invocation.config)] if invocation.config else []
    app = ["--app", app_path] if app_path else []
    return [sys.executable, "-m", "pijobs", *config, *app, *arguments]


def _app_path(invocation: Invocation) -> str | None:
    """The path by which the processes find the app; None if there is no app but a ``pi.cfg``."""
    if invocation.app_path is None and invocation.has_app:  # "flask jobs dev": flask looked in the working folder
        return next((name for name in ("wsgi.py", "app.py") if Path(name).is_file()), None)
    if invocation.app_path is None:
        invocation.app_path = invocation.file_values.get(PREFIX + "APP")
    return invocation.app_path


def _changes(folders: Sequence[Path]) -> Iterator[list[str]]:
    try:
        import watchfiles
    except ImportError:
        raise ConfigurationError("pijobs dev looks for changes by watchfiles; pip install 'pijobs[dev]'") from None
    wanted = watchfiles.PythonFilter(extra_extensions=_WATCHED)
    found = watchfiles.watch(*folders, watch_filter=wanted, rust_timeout=_LOOK_EVERY, yield_on_timeout=True)
    return (sorted({path for _, path in changes}) for changes in found)


def _shown(paths: Sequence[str]) -> str:
    first = os.path.relpath(paths[0])
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit
