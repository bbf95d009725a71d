"""``pijobs quiet``: a worker leases no more jobs, finishes its jobs, and says when it is idle."""

from __future__ import annotations

import socket

import click

from pijobs.base import clock
from pijobs.cli.invocation import Invocation, audit, pass_invocation
from pijobs.observe.quiet import tell, too_old_for_quiet, workers_of
from pijobs.storage.contract import Storage

#: Seconds between two checks.
LOOK = 0.5


@click.command()
@click.argument("host", required=False)
@click.option("--pid", type=int, help="Only this process; default: all workers of the host.")
@click.option("--end", is_flag=True, help="Let them lease jobs again.")
@click.option("--timeout", type=click.FloatRange(0), default=3600.0, help="Give up after this many seconds.")
@pass_invocation
def quiet(invocation: Invocation, host: str | None, pid: int | None, end: bool, timeout: float) -> int:
    """Before a reboot: the workers of HOST (default: this host) lease no more jobs, and finish the ones they have.

    Waits until they are idle, and says so. Exit code 1 if the timeout ends first, or there is no worker. Other hosts
    continue ('pijobs drain' waits for the whole queue instead). Stop the worker, or run 'quiet --end', to end it.
    """
    queue, host = invocation.queue(), host or socket.gethostname()
    storage = queue.present_storage()
    found = workers_of(storage, host, pid)
    if not found:
        known = ", ".join(sorted({record.info.host for record in storage.sessions()})) or "none"
        click.echo(f"no live worker of {host}{f' with pid {pid}' if pid else ''}; hosts with one: {known}", err=True)
        return 1
    if number := too_old_for_quiet(found):
        click.echo(
            f"{number} worker processes of {host} are of release 0.1.0, which does not know this; stop them", err=True
        )
        return 1
    audit(queue.settings, "worker.quiet-end" if end else "worker.quiet", on=f"{host} {pid or ''}".strip())
    if end:
        return _end(storage, host, pid, timeout)
    click.echo(f"{len(found)} worker processes of {host} take no more jobs")
    return _wait(storage, host, pid, timeout)


def _end(storage: Storage, host: str, pid: int | None, timeout: float) -> int:
    until = clock.monotonic() + timeout
    # Repeat it, as in _wait: otherwise a worker that missed it would stay quiet for ever.
    while quiet := [one for one in workers_of(storage, host, pid) if one.info.quiet]:
        tell(storage, quiet, 0)
        if clock.monotonic() >= until:
            break
        clock.sleep(LOOK)
    click.echo(f"the workers of {host} take jobs again, with their next sign of life")
    return 0


def _wait(storage: Storage, host: str, pid: int | None, timeout: float) -> int:
    asked, until, before = storage.now(), clock.monotonic() + timeout, -1
    while found := workers_of(storage, host, pid):
        # Repeat it: a worker that reported its own state at the same moment has missed it.
        tell(storage, [one for one in found if not one.info.quiet], asked)
        left = sum(len(one.running) for one in found)
        if all(one.info.quiet and one.info.resting for one in found):
            break
        if clock.monotonic() >= until:
            click.echo(f"{left} jobs still run", err=True)
            return 1
        if left != before:
            click.echo(f"{left} running")
        before = left
        clock.sleep(LOOK)
    click.echo(f"the workers of {host} are idle" if found else f"the workers of {host} have ended")
    return 0
