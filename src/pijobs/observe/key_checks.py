"""Checks of keys: this process's, the workers', and those that servers enqueue with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pijobs.observe.status import fingerprint
from pijobs.payload.keys import SHORTEST, KeyRing
from pijobs.plugins.hookspecs import CheckResult
from pijobs.request.queue import Queue
from pijobs.settings import PREFIX

#: Seconds for which an enqueue with an older key is reported.
KEY_TOLD = 3600.0
SAME_KEYS = "give server and workers the same SECRET_KEY or PI_JOB_QUEUE_KEYS"


def warned(message: str, advice: str, *, alarm: bool = False) -> CheckResult:
    return CheckResult(True, message, advice, warning=True, alarm=alarm)


def key_size(queue: Queue) -> CheckResult:
    """Our own server does not start with such a key; under privacyIDEA the check is red."""
    size = KeyRing.of(queue.settings).newest.size
    if size >= SHORTEST:
        return CheckResult(True, f"the newest key has {size} bytes")
    advice = f"'pijobs keys new' makes one for {PREFIX}KEYS; docs/how-to/rotate-keys"
    return warned(f"the newest key has {size} bytes, less than {SHORTEST}: it can be guessed", advice, alarm=True)


def shared_key(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    mine, live, without = _keyless(queue, answer)
    if not live:
        return CheckResult(True, "no live worker to ask")
    if len(without) < len(live):
        return CheckResult(True, f"key {mine} is known to a live worker")
    return CheckResult(False, f"no live worker has the key {mine} of this process", SAME_KEYS)


def same_keys(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    mine, live, without = _keyless(queue, answer)
    if not without or len(without) == len(live):
        return CheckResult(True, "the live workers have the same keys")
    said = f"{len(without)} of {len(live)} live workers have another key than {mine}: {processes_of(without)}"
    return warned(said, SAME_KEYS)


def server_keys(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    """Servers have no sign of life, but the instances that they enqueue name the key. This process may be such a
    server."""
    mine, live = KeyRing.of(queue.settings).newest.id, [row for row in answer["workers"] if row["keys"]]
    newest = {row["keys"][0] for row in live}
    advice = "copy the line PI_JOB_QUEUE_KEYS from the workers, and restart it; docs/how-to/rotate-keys"
    if live and mine not in newest and all(mine in row["keys"] for row in live):
        said = f"this process encrypts with key {mine}, though all live workers have a newer one, {', '.join(newest)}"
        return warned(said, advice)
    met: dict[str, float] = {}
    for row in live:
        for key, ago in row["other_keys"].items():
            met[key] = min(ago, met.get(key, KEY_TOLD))
    known = {key for row in live for key in row["keys"]}
    said = ", ".join(
        f"{key} (the last time {ago:.0f} s ago{'' if key in known else '; no live worker has it'})"
        for key, ago in met.items()
        if ago < KEY_TOLD
    )
    if not said:
        return CheckResult(
            True, "what workers read is encrypted with their newest key" if live else "no live worker to ask"
        )
    message = f"a server encrypts with another key than the workers' newest one, {', '.join(sorted(newest))}: {said}"
    return warned(message, f"find it with 'pijobs config check' on each host; {advice}")


def _keyless(queue: Queue, answer: Mapping[str, Any]) -> tuple[str, list[Any], list[Any]]:
    mine, live = KeyRing.of(queue.settings).newest.id, answer["workers"]
    return mine, live, [row for row in live if mine not in row["keys"]]


def old_keys(queue: Queue) -> CheckResult:
    ring, own = KeyRing.of(queue.settings), fingerprint(queue.settings)
    under = {} if own is None else own.key_ids()
    older = {key: number for key, number in under.items() if key != ring.newest.id}
    if not older:
        return CheckResult(True, f"all secrets of definitions are encrypted with key {ring.newest.id}")
    said = ", ".join(f"{number} under {key}" for key, number in sorted(older.items()))
    advice = "once workers and servers have both keys: 'pijobs keys retire', before the old one is taken away"
    return warned(f"secrets of definitions are not encrypted with the newest key {ring.newest.id}: {said}", advice)


def processes_of(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(sorted({f"{row['host']} pid {row['pid']}" for row in rows}))
