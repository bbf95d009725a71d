"""``pijobs move``: move waiting instances from one storage to another."""

from __future__ import annotations

from uuid import uuid4

import click

from pijobs.base import clock
from pijobs.cli.invocation import Invocation, audit, pass_invocation
from pijobs.errors import ConfigurationError, StateConflict
from pijobs.jobs import WAITING, State
from pijobs.request.queue import Queue
from pijobs.request.spool import HOLD, Mover
from pijobs.storage.contract import Storage

_TIMEOUT = 5.0  # seconds to wait for one enqueue


@click.command()
@click.argument("old", metavar="OLD_PI_CFG", type=click.Path(exists=True, dir_okay=False))
@pass_invocation
def move(invocation: Invocation, old: str) -> int:
    """Move waiting instances from the storage of an old pi.cfg to the storage of the present pi.cfg.

    First restart all servers with the new pi.cfg, then stop the old workers and start new ones, then move. Instances
    that a worker of the old storage had begun (a retry, a dead letter) stay there; the command prints how many.
    Instances keep their ids, so run the command again if it is interrupted. Exit code 1 if something stays.
    """
    target, source = invocation.queue(), Invocation(old).queue()
    assert target.storage is not None and source.storage is not None
    source.storage.try_out()
    target.storage.try_out()
    if _are_the_same(source.storage, target.storage):
        raise ConfigurationError(f"expected the pi.cfg of another storage, found the present one in {old}")
    if live := source.storage.sessions():
        told = ", ".join(f"{one.info.host} pid {one.info.pid}" for one in live)
        raise StateConflict(f"expected no worker on the old storage, found {told}; stop it, or wait for its lease")
    moved = _move(source, target)
    if moved:
        audit(target.settings, "queue.move", on=f"{moved} from {source.storage.display_url}")
    click.echo(f"{moved} instances moved from {source.storage.display_url} to {target.storage.display_url}")
    return _tell_what_stays(source.storage)


def _are_the_same(one: Storage, other: Storage) -> bool:
    """Whether two storages are the same, however their URLs are written: a mark in the first is seen in the second.

    A move within one storage would find each instance already there, and then remove it as moved.
    """
    mark = f"move.{uuid4().hex}"
    one.set_group(mark, version=0, limit=None, blocked_until=None, policy="")
    return other.group(mark) is not None


def _move(source: Queue, target: Queue) -> int:
    """:returns: how many were moved. An instance that the target can't store becomes a dead letter in the source."""
    assert target.storage is not None and source.storage is not None
    mover = Mover(source.storage, target.storage, target.codec, _TIMEOUT)
    total, idle_since = 0, clock.monotonic()
    # Instances held by an interrupted move become free when the hold ends.
    while clock.monotonic() - idle_since < HOLD + 1:
        if moved := mover.move():
            total, idle_since = total + moved, clock.monotonic()
            click.echo(f"\r{total} moved", nl=False, err=True)
        elif not _waits(source.storage):
            break
        else:
            clock.sleep(0.1)
    if total:
        click.echo(err=True)
    return total


def _waits(storage: Storage) -> int:
    return sum(number for (_, state), number in storage.depths().counts.items() if state in WAITING)


def _tell_what_stays(storage: Storage) -> int:
    waiting = _waits(storage)
    dead = sum(number for (_, state), number in storage.depths().counts.items() if state is State.DEAD)
    if waiting:
        click.echo(
            f"{waiting} instances that an old worker had begun wait there for their next attempt: "
            "start a worker with the old pi.cfg until 'pijobs --config OLD_PI_CFG drain' ends",
            err=True,
        )
    if dead:
        click.echo(f"{dead} dead letters stay there: see 'pijobs --config OLD_PI_CFG jobs list --state dead'", err=True)
    return 1 if waiting or dead else 0
