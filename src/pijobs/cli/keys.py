"""``pijobs keys …``: which keys are needed, a new one, and an old one that is needed no more."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, audit, pass_invocation
from pijobs.observe.readiness import configuration
from pijobs.observe.sealing import counted, seal_anew
from pijobs.observe.status import workers
from pijobs.payload.keys import KeyRing
from pijobs.request.queue import Queue
from pijobs.settings import PREFIX
from pijobs.storage.contract import Storage

_BYTES = 32


@click.group()
def keys() -> None:
    """The keys that encrypt what is stored: rotate them without losing a mail.

    The order: 'pijobs keys new'; its line on every worker host, restart the workers; the line on every server, restart
    the servers; 'pijobs keys retire'; take the old key out.
    """


@keys.command("list")
@pass_invocation
@looks
def list_keys(invocation: Invocation) -> None:
    """Tell for each key who has it and what is stored under it."""
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
    """Make a key, and tell where to write it, in which order. Changes nothing by itself."""
    settings = invocation.settings()
    key = secrets.token_urlsafe(_BYTES)
    old = "the keys that stand there now" if settings.encryption_keys else "SECRET_KEY"
    rest = f"…{old}…" if settings.encryption_keys else old
    click.echo(f'{PREFIX}KEYS = ["{key}", {rest}]')
    click.echo(f"\nthe new key is {KeyRing([key]).newest.id}. Its line goes into pi.cfg, below SECRET_KEY:", err=True)
    for line in (
        "1. on every worker host; then restart the workers, which can read both then",
        "2. on every server; then restart the servers, which write with the new one from then on",
        "3. 'pijobs keys retire' brings what is stored under the new key, and tells when the old one is needed no more",
        "4. take the old key out of the line everywhere (and leave SECRET_KEY itself, which Flask needs)",
    ):
        click.echo(line, err=True)


@keys.command()
@pass_invocation
def retire(invocation: Invocation) -> int:
    """Bring definitions and what waits under the newest key; tell whether older ones are still needed.

    Refused while a live worker does not have the newest key: it could not read what it is given then.
    """
    queue = invocation.queue()
    ring = KeyRing.of(queue.settings)
    without = [name for name, ids in _worker_keys(queue).items() if ring.newest.id not in ids]
    if without:
        click.echo(f"refused: these workers do not have the newest key {ring.newest.id}: {', '.join(without)}")
        click.echo("workers first: give them the line of PI_JOB_QUEUE_KEYS, restart them, and give the command again")
        return 1
    for line in _bring_over(queue, ring):
        click.echo(line)
    audit(queue.settings, "keys.retire", on=f"for {ring.newest.id}")
    needed = Counter[str]()
    for counts in _used(queue).values():
        needed.update({key: number for key, number in counts.items() if key != ring.newest.id})
    for key, number in needed.items():
        click.echo(f"key {key} is still needed: {number} things are under it; give the command again in a while")
    if not needed:
        older = [key for key in ring.ids if key != ring.newest.id]
        click.echo(f"needed no more: {', '.join(older) or 'there is no older key'}")
        if older:
            for key, ago in _met(queue).items():
                click.echo(f"a server enqueued under {key} {ago:.0f} s ago: was it restarted since?")
            click.echo(f"take it out of {PREFIX}KEYS, once every server has {ring.newest.id} as its first key")
            click.echo("what ended under it is found by its subject no more")
    return 1 if needed else 0


def _bring_over(queue: Queue, ring: KeyRing) -> Iterator[str]:
    from pijobs.definitions.rotation import reencrypt
    from pijobs.server.factors import Factors

    configuration(queue)  # reads all definitions: what an older release left in clear is encrypted by that
    yield f"definitions: {reencrypt(queue.settings)} secrets were encrypted anew"
    if number := Factors.of(queue.settings).reencrypt():
        yield f"second factors: {number} secrets were encrypted anew"
    for name, storage in _storages(queue):
        found = seal_anew(storage, queue.codec(), lambda envelope: envelope.key_id != ring.newest.id)
        yield f"{name}: {found.done} instances were sealed anew, {found.left} left, which run or changed just now"
        for why, number in found.unreadable.items():
            yield f"{name}: {number} can't be read here: {why}"


def _used(queue: Queue) -> dict[str, Counter[str]]:
    """What is stored under each key, by what it is."""
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
    if queue.spool is not None and Path(queue.settings.spool or "").exists():  # a look does not make it
        yield "spool of this host", queue.spool


def _met(queue: Queue) -> dict[str, float]:
    """Keys under which workers met something though they have a newer one, and how many seconds ago it was enqueued."""
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
