"""``pijobs worker``, also installed as ``privacyidea-queue-huey``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import flask

from pijobs.base.processes import exit_in_spite_of_leftovers
from pijobs.base.requirements import unmet
from pijobs.cli.invocation import Invocation, pass_invocation, version_option
from pijobs.errors import ConfigurationError, StorageUnavailable, StorageUnfit
from pijobs.factory import Installation
from pijobs.logs.configuration import configure_log
from pijobs.request.queue import Queue
from pijobs.settings import PREFIX, Settings
from pijobs.settings.worker import WORKER_TYPES, address_of, reserve_of
from pijobs.worker.leasing import Pause
from pijobs.worker.main import WorkerOptions, make_consumer

log = logging.getLogger(__name__)

DEFAULT_LOG = "privacyidea-queue.log"


class Reserve(click.ParamType):  # type: ignore[type-arg]
    """``N:PRIORITY``."""

    name = "N:PRIORITY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        return reserve_of(value) or self.fail(f"expected N:PRIORITY such as 1:10, found {value!r}", param, ctx)


class Address(click.ParamType):  # type: ignore[type-arg]
    """``HOST:PORT``."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        return address_of(value) or self.fail(f"expected HOST:PORT such as 127.0.0.1:8080, found {value!r}", param, ctx)


@click.command()
@click.option("-w", "--workers", type=click.IntRange(1), help="Number of workers (default 8).")
@click.option(
    "-k",
    "--worker-type",
    type=click.Choice(WORKER_TYPES),
    help="thread (default), process, or greenlet (pip install 'pijobs[gevent]').",
)
@click.option(
    "-r",
    "--reserve",
    type=Reserve(),
    multiple=True,
    help="N more workers only for jobs of this priority and above; repeatable.",
)
@click.option(
    "-d",
    "--delay",
    type=click.FloatRange(0.01),
    help="While the storage is away: first wait between two tries, in seconds (default 0.1).",
)
@click.option(
    "-b",
    "--backoff",
    type=click.FloatRange(1),
    help="While the storage is away: factor between two waits (default 1.15).",
)
@click.option(
    "-m",
    "--max-delay",
    type=click.FloatRange(0.01),
    help="While the storage is away: longest wait, at most 1 (default 1).",
)
@click.option(
    "-c",
    "--health-check-interval",
    type=click.FloatRange(0.1),
    help="Seconds between two checks for dead workers; at most half of PI_JOB_QUEUE_LEASE (default 10).",
)
@click.option("--disable-health-check/--health-check", "-C/ ", default=None, help="Do not replace workers that died.")
@click.option("-M", "--max-tasks", type=click.IntRange(1), help="Replace a worker after this many jobs.")
@click.option(
    "-t",
    "--shutdown-timeout",
    type=click.FloatRange(0),
    help="Seconds that running jobs have to end after SIGTERM or SIGINT (default 30).",
)
@click.option(
    "-s",
    "--scheduler-interval",
    type=click.IntRange(1, 60),
    help="Seconds between two checks of the periodic jobs; a divisor of 60 (default 1).",
)
@click.option("--no-periodic/--periodic", "-n/ ", default=None, help="Do not enqueue periodic jobs.")
@click.option(
    "-l",
    "--logfile",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Log to this file (default {DEFAULT_LOG} in the working directory; - for standard error).",
)
@click.option("-v", "--verbose", is_flag=True, default=None, help="Log details, too.")
@click.option("-q", "--quiet", is_flag=True, default=None, help="Log warnings and errors only.")
@click.option("--simple/--no-simple", "-S/ ", default=None, help="Short log lines: time and message.")
@click.option("-f", "--flush-locks", is_flag=True, help="Accepted without effect: there are no locks to flush.")
@click.option("-L", "--extra-locks", help="Accepted without effect: there are no locks to flush.")
@click.option(
    "-g",
    "--graceful-signal",
    type=click.Choice(["INT", "TERM"]),
    help="Accepted without effect: both signals let running jobs end.",
)
@click.option(
    "--app",
    "app_path",
    metavar="MODULE:FACTORY",
    help="Run jobs in the context of this Flask app, found as flask does: module, module:app, module:factory.",
)
@click.option("--http", type=Address(), help="Answer /livez, /readyz, /healthz and /metrics here.")
@click.option(
    "--config",
    metavar="FILE",
    expose_value=False,
    callback=lambda ctx, _, file: setattr(ctx, "obj", Invocation(file)) if file else None,
    help="The pi.cfg. Else PRIVACYIDEA_CONFIGFILE, /etc/privacyidea/pi.cfg, ./pi.cfg.",
)
@version_option
@pass_invocation
def worker(invocation: Invocation, /, **options: Any) -> None:
    """Run the jobs of the queue.

    Each option has a setting in pi.cfg, such as PI_JOB_QUEUE_WORKER_TYPE for --worker-type. The option overrides it.

    SIGTERM and SIGINT let running jobs end, for the time of -t. Then, or at a second signal, running jobs go back to
    the queue. SIGHUP does the same and restarts the worker. While the storage is away, the worker waits for it.
    """  # fmt: skip
    _check(options)
    if missing := unmet("pijobs"):
        raise ConfigurationError("\n".join(missing))
    invocation.app_path = options["app_path"] or invocation.app_path
    written = _written(invocation)
    greenlets = (options["worker_type"] or written.get(PREFIX + "WORKER_TYPE")) == "greenlet"
    if greenlets:
        _patch()
    invocation.app_path = invocation.app_path or written.get(PREFIX + "APP")
    app, installation = _app(invocation)
    options = effective(options, installation.settings)
    if options["worker_type"] == "greenlet" and not greenlets:
        raise ConfigurationError("-k greenlet must be known before the app is imported; give it on the command line")
    _check(options)
    file = _log_to(installation, options)
    _try_out(installation.queue)
    consumer = make_consumer(installation, app, _options(options))
    if options["http"] is not None:
        _serve_health(app, installation, options["http"])
    log.info("worker %d starts: %d workers (%s), jobs %s", os.getpid(), len(_options(options).floors()),
             options["worker_type"], ", ".join(installation.registry) or "none")  # fmt: skip
    if file is not None and sys.stderr.isatty():
        click.echo(told_at_start(installation, len(_options(options).floors()), file), err=True)
    consumer.run()
    log.info("worker %d has stopped", os.getpid())
    exit_in_spite_of_leftovers()


def told_at_start(installation: Installation, workers: int, file: Path) -> str:
    """What a worker prints on the terminal; everything else goes to its log."""
    queue = installation.queue
    assert queue.storage is not None
    jobs = ", ".join(installation.registry) or "none: no plugin brings any"
    return (
        f"{workers} workers run the jobs of queue {queue.settings.name} in {queue.storage.display_url}\n"
        f"jobs: {jobs}\nlog: {file.absolute()} (-l - shows it here); Ctrl-C lets running jobs end, and stops"
    )


def _written(invocation: Invocation) -> Mapping[str, Any]:
    """The settings as written in ``pi.cfg``, before an app is imported. With an app there may be no ``pi.cfg``."""
    try:
        return invocation.file_values
    except ConfigurationError:
        if not invocation.has_app:
            raise
        return {}


def effective(options: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The options of the command line; for a missing one, its setting."""
    found = {
        name: settings.get(PREFIX + name.upper()) if value in (None, ()) else value for name, value in options.items()
    }
    if options["reserve"] == ():
        found["reserve"] = tuple(map(reserve_of, settings.reserve))
    if options["http"] is None and found["http"] is not None:
        found["http"] = address_of(found["http"])
    if options["verbose"] or options["quiet"]:  # one of them overrides both settings
        found |= {"verbose": options["verbose"], "quiet": options["quiet"]}
    return found


def _try_out(queue: Queue) -> None:
    """:raises StorageUnfit: the worker would wait for ever."""
    assert queue.storage is not None
    try:
        queue.storage.try_out()
    except StorageUnfit as error:
        # People look into the log if a worker is missing.
        log.critical("the worker can't use the storage %s: %s", queue.storage.display_url, error)
        raise
    except StorageUnavailable:  # the session waits for it, and logs this
        pass


def _check(options: Mapping[str, Any]) -> None:
    interval = options["scheduler_interval"]
    if interval and 60 % interval:
        raise click.UsageError(f"-s: expected a divisor of 60, found {interval}")
    if options["max_tasks"] and options["disable_health_check"]:
        raise click.UsageError("-M needs the health check that -C switches off: nobody would replace the worker")
    if options["verbose"] and options["quiet"]:
        raise click.UsageError("-v and -q: expected one of them")


def _options(options: Mapping[str, Any]) -> WorkerOptions:
    return WorkerOptions(
        workers=options["workers"],
        worker_type=options["worker_type"],
        pause=Pause(options["delay"], options["backoff"], options["max_delay"]),
        health_check_interval=options["health_check_interval"],
        check_health=not options["disable_health_check"],
        max_tasks=options["max_tasks"],
        shutdown_timeout=options["shutdown_timeout"],
        scheduler_interval=options["scheduler_interval"],
        periodic=not options["no_periodic"],
        reserved=options["reserve"],
    )


def _patch() -> None:
    try:
        from gevent import monkey
    except ImportError as error:
        raise ConfigurationError("-k greenlet needs gevent; pip install 'pijobs[gevent]'") from error
    monkey.patch_all()


def _app(invocation: Invocation) -> tuple[flask.Flask, Installation]:
    app, installation = invocation.host(strict=True)
    if installation.queue.mode != "queued":
        raise ConfigurationError(
            f"expected a queue to work on, found it {installation.queue.mode}; "
            f"set {PREFIX}CLASS = 'pijobs.HueyQueue' (and not {PREFIX}IMMEDIATE) in pi.cfg"
        )
    return app, installation


def _log_to(installation: Installation, options: Mapping[str, Any]) -> Path | None:
    """The file of the log, unless it is the terminal or ``PI_LOGCONFIG`` decides."""
    file = None if options["logfile"] is None else Path(options["logfile"])
    config = installation.settings.log_config
    if file is not None and config and Path(config).exists():
        raise click.UsageError(f"-l {file}: PI_LOGCONFIG names {config}, which decides where the log goes")
    level = logging.DEBUG if options["verbose"] else logging.WARNING if options["quiet"] else None
    target = None if str(file) == "-" else file or Path(DEFAULT_LOG)
    configure_log(
        installation.settings, target, level=level, simple=bool(options["simple"]),
        processes=options["worker_type"] == "process",
    )  # fmt: skip
    return None if config and Path(config).exists() else target


def _serve_health(app: flask.Flask, installation: Installation, address: tuple[str, int]) -> None:
    from pijobs.server.health import serve_health

    try:
        serve_health(installation, address)
    except (OSError, SystemExit) as error:  # werkzeug exits after it printed the reason
        raise ConfigurationError(f"--http: expected a free address, found {address[0]}:{address[1]}") from error
