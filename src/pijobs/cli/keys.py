"""``pijobs keys …``: which keys are needed, make a new one, retire an old one."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, audit, pass_invocation
from pijobs.observe.facts import workers
from pijobs.observe.readiness import configuration
from pijobs.observe.sealing import counted, seal_anew
from pijobs.payload.keys import KeyRing
from pijobs.request.queue import Queue
from pijobs.settings import PREFIX
from pijobs.storage.contract import Storage

_BYTES = 32


@click.group()
def keys() -> None:
    """The keys that encrypt stored data. Rotate them without losing a mail.

    The order: run 'pijobs keys new'; put its line on every worker host and restart the workers; put it on every server
    and restart the servers; run 'pijobs keys retire'; remove the old key.
    """


@keys.command("list")
@pass_invocation
@looks
def list_keys(invocation: Invocation) -> None:
    """Show for each key which workers have it and what is stored under it."""
    queue = invocation.queue()
    ring, used = KeyRing.of(queue.settings), _used(queue)
    having_keys, met = _worker_keys(queue), _met(queue)
    told = {key for ids in having_keys.values() for key in ids}
    for key in dict.fromkeys([*ring.ids, *sorted({key for counts in used.values() for key in counts} | told | {*met})]):
        place = "newest" if key == ring.newest.id else "older" if key in ring.ids else "not here"
        having = sum(key in ids for ids in having_keys.values())
        counts = ", ".join(f"{each[key]} {what}" for what, each in used.items() if each[key])
        if key in met:
            counts = f"{counts or 'nothing is under it'}, but a server enqueued under it {met[key]:.0f} s ago"
        who = f"{having} of {len(having_keys)} live workers have it"
        click.echo(f"{key}  {place:8}  {who}; {counts or 'nothing is under it'}")


@keys.command()
@pass_invocation
def new(invocation: Invocation) -> None:
    """Make a key, and print where to put it, in which order. Changes nothing."""
    settings = invocation.settings()
    key = secrets.token_urlsafe(_BYTES)
    old = "the keys that stand there now" if settings.encryption_keys else "SECRET_KEY"
    rest = f"…{old}…" if settings.encryption_keys else old
    click.echo(f'{PREFIX}KEYS = ["{key}", {rest}]')
    click.echo(f"\nthe new key is {KeyRing([key]).newest.id}. Put its line into pi.cfg, below SECRET_KEY:", err=True)
    for line in (
        "1. on every worker host; then restart the workers, so that they can read both keys",
        "2. on every server; then restart the servers, so that they write with the new key",
        "3. run 'pijobs keys retire': it re-encrypts the stored data, and says when the old key is needed no more",
        "4. remove the old key from the line everywhere (keep SECRET_KEY itself, which Flask needs)",
    ):
        click.echo(line, err=True)


@keys.command()
@pass_invocation
def retire(invocation: Invocation) -> int:
    """Re-encrypt definitions and waiting instances with the newest key; print whether older keys are still needed.

    Refused while a live worker lacks the newest key, because it could not read the result.
    """
    queue = invocation.queue()
    ring = KeyRing.of(queue.settings)
    without = [name for name, ids in _worker_keys(queue).items() if ring.newest.id not in ids]
    if without:
        click.echo(f"refused: these workers do not have the newest key {ring.newest.id}: {', '.join(without)}")
        click.echo("workers first: give them the line of PI_JOB_QUEUE_KEYS, restart them, and run the command again")
        return 1
    for line in _bring_over(queue, ring):
        click.echo(line)
    audit(queue.settings, "keys.retire", on=f"for {ring.newest.id}")
    needed = Counter[str]()
    for counts in _used(queue).values():
        needed.update({key: number for key, number in counts.items() if key != ring.newest.id})
    for key, number in needed.items():
        click.echo(f"key {key} is still needed: {number} instances or secrets use it; run the command again later")
    if not needed:
        older = [key for key in ring.ids if key != ring.newest.id]
        click.echo(f"needed no more: {', '.join(older) or 'there is no older key'}")
        if older:
            for key, ago in _met(queue).items():
                click.echo(f"a server enqueued under {key} {ago:.0f} s ago: was it restarted since?")
            click.echo(f"remove it from {PREFIX}KEYS when every server has {ring.newest.id} as its first key")
            click.echo("instances that ended under it can't be found by subject any more")
    return 1 if needed else 0


def _bring_over(queue: Queue, ring: KeyRing) -> Iterator[str]:
    from pijobs.definitions.rotation import reencrypt
    from pijobs.server.factors import Factors

    configuration(queue)  # reads all definitions, which encrypts what an older release left unencrypted
    yield f"definitions: {reencrypt(queue.settings)} secrets were re-encrypted"
    if number := Factors.of(queue.settings).reencrypt():
        yield f"second factors: {number} secrets were re-encrypted"
    for name, storage in _storages(queue):
        found = seal_anew(storage, queue.codec(), lambda envelope: envelope.key_id != ring.newest.id)
        yield f"{name}: {found.done} instances were re-encrypted, {found.left} left, which run or changed just now"
        for why, number in found.unreadable.items():
            yield f"{name}: {number} can't be read here: {why}"


def _used(queue: Queue) -> dict[str, Counter[str]]:
    """How much is stored under each key, by kind."""
    from pijobs.definitions.rotation import key_ids
    from pijobs.server.factors import Factors

    factors = Factors.of(queue.settings).key_ids()
    return {
        "secrets of definitions": key_ids(queue.settings),
        **({"second factors": factors} if factors else {}),
        **{f"instances in the {name}": counted(storage) for name, storage in _storages(queue)},
    }


def _storages(queue: Queue) -> Iterator[tuple[str, Storage]]:
    assert queue.storage is not None
    yield "storage", queue.storage
    if queue.spool is not None and Path(queue.settings.spool or "").exists():  # reading must not create it
        yield "spool of this host", queue.spool


def _met(queue: Queue) -> dict[str, float]:
    """Old keys that a server still uses, as seen by workers, and how many seconds ago it enqueued with them."""
    assert queue.storage is not None
    met: dict[str, float] = {}
    for row in workers(queue.storage):
        for key, ago in row["other_keys"].items():
            met[key] = min(ago, met.get(key, ago))
    return met


def _worker_keys(queue: Queue) -> dict[str, tuple[str, ...]]:
    assert queue.storage is not None
    infos = [record.info for record in queue.storage.sessions()]
    return {f"{info.host} pid {info.pid}": info.keys for info in infos}
