"""Checks of keys: this process's, the workers', and those that servers enqueue with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pijobs.base.told import Told
from pijobs.observe.status import fingerprint
from pijobs.payload.keys import SHORTEST, KeyRing
from pijobs.plugins.hookspecs import CheckResult
from pijobs.request.queue import Queue

#: Seconds for which an enqueue with an older key is reported.
KEY_TOLD = 3600.0
SAME_KEYS = Told("give server and workers the same SECRET_KEY or PI_JOB_QUEUE_KEYS")
NO_WORKER = Told("no live worker to ask")


def warned(message: str, advice: str, *, alarm: bool = False) -> CheckResult:
    return CheckResult(True, message, advice, warning=True, alarm=alarm)


def key_size(queue: Queue) -> CheckResult:
    """Our own server does not start with such a key; under privacyIDEA the check is red."""
    size = KeyRing.of(queue.settings).newest.size
    if size >= SHORTEST:
        return CheckResult(True, Told("the newest key has {size} bytes", size=size))
    said = Told("the newest key has {size} bytes, less than {least}: it can be guessed", size=size, least=SHORTEST)
    return warned(said, Told("'pijobs keys new' makes one for PI_JOB_QUEUE_KEYS; docs/how-to/rotate-keys"), alarm=True)


def shared_key(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    mine, live, without = _keyless(queue, answer)
    if not live:
        return CheckResult(True, NO_WORKER)
    if len(without) < len(live):
        return CheckResult(True, Told("key {key} is known to a live worker", key=mine))
    return CheckResult(False, Told("no live worker has the key {key} of this process", key=mine), SAME_KEYS)


def same_keys(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    mine, live, without = _keyless(queue, answer)
    if not without or len(without) == len(live):
        return CheckResult(True, Told("the live workers have the same keys"))
    said = Told(
        "{number} of {all} live workers have another key than {key}: {processes}",
        number=len(without), all=len(live), key=mine, processes=processes_of(without),
    )  # fmt: skip
    return warned(said, SAME_KEYS)


def server_keys(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    """Servers have no sign of life, but the instances that they enqueue name the key. This process may be such a
    server."""
    mine, live = KeyRing.of(queue.settings).newest.id, [row for row in answer["workers"] if row["keys"]]
    newest = {row["keys"][0] for row in live}
    advice = Told("copy the line PI_JOB_QUEUE_KEYS from the workers, and restart it; docs/how-to/rotate-keys")
    if live and mine not in newest and all(mine in row["keys"] for row in live):
        said = Told(
            "this process encrypts with key {key}, though all live workers have a newer one, {newest}",
            key=mine,
            newest=", ".join(newest),
        )
        return warned(said, advice)
    met: dict[str, float] = {}
    for row in live:
        for key, ago in row["other_keys"].items():
            met[key] = min(ago, met.get(key, KEY_TOLD))
    known = {key for row in live for key in row["keys"]}
    told = [_met(key, ago, key in known) for key, ago in met.items() if ago < KEY_TOLD]
    if not told:
        well = Told("what workers read is encrypted with their newest key")
        return CheckResult(True, well if live else NO_WORKER)
    message = Told(
        "a server encrypts with another key than the workers' newest one, {newest}: {met}",
        newest=", ".join(sorted(newest)),
        met=Told.joined(", ", told),
    )
    return warned(message, Told("find it with 'pijobs config check' on each host; {then}", then=advice))


def _met(key: str, ago: float, known: bool) -> Told:
    if known:
        return Told("{key} (the last time {ago:.0f} s ago)", key=key, ago=ago)
    return Told("{key} (the last time {ago:.0f} s ago; no live worker has it)", key=key, ago=ago)


def _keyless(queue: Queue, answer: Mapping[str, Any]) -> tuple[str, list[Any], list[Any]]:
    mine, live = KeyRing.of(queue.settings).newest.id, answer["workers"]
    return mine, live, [row for row in live if mine not in row["keys"]]


def old_keys(queue: Queue) -> CheckResult:
    ring, own = KeyRing.of(queue.settings), fingerprint(queue.settings)
    under = {} if own is None else own.key_ids()
    older = {key: number for key, number in under.items() if key != ring.newest.id}
    if not older:
        return CheckResult(True, Told("all secrets of definitions are encrypted with key {key}", key=ring.newest.id))
    said = Told(
        "secrets of definitions are not encrypted with the newest key {key}: {older}",
        key=ring.newest.id,
        older=Told.joined(", ", (Told("{number} under {key}", number=older[key], key=key) for key in sorted(older))),
    )
    advice = Told("once workers and servers have both keys: 'pijobs keys retire', before the old one is taken away")
    return warned(said, advice)


def processes_of(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(sorted({f"{row['host']} pid {row['pid']}" for row in rows}))
