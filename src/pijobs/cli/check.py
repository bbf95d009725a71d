"""``pijobs check``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, audit, pass_invocation
from pijobs.cli.status import json_option
from pijobs.storage.contract import Storage
from pijobs.storage.records import Fault


@click.command()
@click.option("--repair", is_flag=True, help="Repair what can be repaired.")
@json_option
@pass_invocation
def check(invocation: Invocation, repair: bool, as_json: bool) -> int:
    """Check the stored data of the queue and its spool.

    Finds instances that can't be read, instances that would never run, expire or be removed, and index entries without
    an instance.

    With --repair, an unreadable instance ends dead with the reason "damaged: …" and keeps its body; everything else is
    indexed again. Workers repair the same by themselves, a part with each sign of life. Exit code 1 if faults remain.
    """
    if not repair:
        return looks(_check)(invocation, repair, as_json)
    return _check(invocation, repair, as_json)


def _check(invocation: Invocation, repair: bool, as_json: bool) -> int:
    storage = invocation.storage()
    installation = invocation.installation()
    spool = installation.queue.spool
    found = [*_faults(storage, "queue", repair)]
    if spool is not None:
        found += _faults(spool, "spool", repair)
    if repair:
        audit(installation.settings, "queue.repair", on=f"{len(found)} faults", fields=[fault.id for _, fault in found])
    if as_json:
        click.echo(json.dumps([{"in": where, **asdict(fault)} for where, fault in found], indent=2))
    else:
        for where, fault in found:
            click.echo(f"{where}: {fault.id}: {fault.what}{' (repaired)' if fault.mended else ''}")
        click.echo(_verdict(len(found), sum(fault.mended for _, fault in found)))
    return int(any(not fault.mended for _, fault in found))


def _faults(storage: Storage, where: str, repair: bool) -> Iterator[tuple[str, Fault]]:
    for part in storage.check(repair=repair):
        yield from ((where, fault) for fault in part.faults)


def _verdict(found: int, mended: int) -> str:
    if not found:
        return "the stored data is consistent"
    faults = "1 fault" if found == 1 else f"{found} faults"
    return (
        f"found and repaired {faults}"
        if mended == found
        else f"found {faults}; 'pijobs check --repair' repairs what it can"
    )
