"""Mistakes of the first day: settings with which everything seems to work until mails are late or lost.

One list, for ``pijobs config check`` and readiness. A mistake that stops jobs now is not ok; the others are warnings.
"""

from __future__ import annotations

import functools
import stat
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from pijobs.base import clock, threads
from pijobs.observe import clear_text
from pijobs.observe.status import fingerprint
from pijobs.payload.keys import SHORTEST, KeyRing
from pijobs.plugins.hookspecs import CheckResult
from pijobs.request.enqueuer import WORKER_ABSENT
from pijobs.request.queue import Queue
from pijobs.settings import PREFIX, config_warnings

#: Seconds between the clocks of this host and of the storage that are worth a warning. The queue itself counts by
#: the storage's clock alone; a one-time password, a certificate and the Date of a mail do not.
CLOCK_DIFFERENCE = 5.0

#: Seconds for which it is told that somebody enqueued under an older key.
KEY_TOLD = 3600.0
#: Bytes that are left of a disk that is as good as full; of a small one three times what is kept for the workers
#: (:mod:`pijobs.storage.sql.room`).
LEAST_DISK, LEAST_PART = 50 * 1024**2, 3 / 8
SAME_KEYS = "give server and workers the same SECRET_KEY or PI_JOB_QUEUE_KEYS"

Found = Iterator[tuple[str, CheckResult]]


def of_settings(queue: Queue) -> Found:
    """What can be seen without the storage."""
    if queue.settings.file is not None:
        yield "config_file", _config_file(queue)
    settings = queue.settings
    if queue.storage is not None and clear_text.is_remote_kind(settings):
        yield "login", _in_clear(clear_text.login(settings), "the storage is on this machine, or asks who comes")
        yield "tls", _in_clear(clear_text.tls(settings), "the storage is on this machine, or spoken to by TLS")
    yield (
        "database_tls",
        _in_clear(clear_text.database(settings), "the database is here, or spoken to by TLS"),
    )
    if threads.are_stopped_between_requests():
        yield "threads", _warning(threads.STOPPED, threads.ADVICE)
    if queue.spool is None and "spool" in queue.settings.fallback:
        yield "fallback", _no_spool()


def of_storage(queue: Queue, answer: Mapping[str, Any]) -> Found:
    """What the storage tells of itself.

    :param answer: of :func:`pijobs.observe.status.overview`.
    :raises StorageUnavailable: when it does not answer.
    """
    assert queue.storage is not None
    facts = queue.storage.diagnose()
    yield "key", _key(queue)
    if "path given" in facts:
        yield "storage_path", _storage_path(facts)
    if "tls" in facts:
        yield "eviction", _eviction(facts)
        yield "eviction_policy", _eviction_policy(facts)
        yield "persistence", _persistence(facts)
    yield "storage_full", full(facts)
    yield "clock", _clock(queue.storage.now() / 1000 - clock.time())
    yield "worker", _worker(answer)
    yield "worker_keys", _keys(queue, answer)
    yield "worker_keys_differ", _keys_differ(queue, answer)
    yield "server_keys", _server_keys(queue, answer)
    yield "worker_jobs", _jobs(queue, answer)
    yield "worker_versions", _versions(answer)
    yield "definitions", _definitions(queue, answer)
    yield "old_keys", _old_keys(queue)


def _warning(message: str, advice: str, *, alarm: bool = False) -> CheckResult:
    return CheckResult(True, message, advice, warning=True, alarm=alarm)


# -- settings --------------------------------------------------------------------------------------------------------


def _config_file(queue: Queue) -> CheckResult:
    assert queue.settings.file is not None
    for warning in config_warnings(queue.settings.file):
        message, _, advice = warning.partition("; ")
        return _warning(message, advice)
    return CheckResult(True, f"{queue.settings.file} is not readable by all")


def _key(queue: Queue) -> CheckResult:
    """Our own server does not start with such a key; under privacyIDEA it is told in red."""
    size = KeyRing.of(queue.settings).newest.size
    if size >= SHORTEST:
        return CheckResult(True, f"the newest key has {size} bytes")
    advice = f"'pijobs keys new' makes one for {PREFIX}KEYS; docs/how-to/rotate-keys"
    return _warning(f"the newest key has {size} bytes, less than {SHORTEST}: it can be guessed", advice, alarm=True)


def _no_spool() -> CheckResult:
    message = f"{PREFIX}SPOOL is not set: while the storage is away, jobs run in the request"
    advice = f"set it to a local file, such as /var/lib/privacyidea/spool.sqlite, or {PREFIX}FALLBACK = ('direct',)"
    return _warning(message, advice)


# -- the storage -----------------------------------------------------------------------------------------------------


def _storage_path(facts: Mapping[str, str]) -> CheckResult:
    if facts["path given"] != "absolute":
        return _warning(
            f"the path of the queue is relative: a process started in another folder has another queue; "
            f"here it is {facts['path']}",
            f"set {PREFIX}URL = 'sqlite:////{facts['path'].lstrip('/')}', with four slashes",
        )
    if int(facts["mode"], 8) & (stat.S_IRWXG | stat.S_IRWXO):
        return _warning(f"others than the owner may access {facts['path']}", "chmod 600 it")
    return CheckResult(True, f"{facts['path']} is an absolute path")


NO_EVICTION = "set 'maxmemory-policy noeviction' in redis.conf; a full Redis then refuses jobs, and fallbacks take them"


def _eviction(facts: Mapping[str, str]) -> CheckResult:
    policy, evicted = facts.get("maxmemory-policy") or "", int(facts.get("evicted_keys", "0"))
    if evicted and policy.startswith("allkeys"):
        said = f"Redis evicted {evicted} keys (maxmemory-policy {policy}): jobs get lost"
        return CheckResult(False, said, NO_EVICTION)
    return CheckResult(True, "Redis evicted no jobs")


def _eviction_policy(facts: Mapping[str, str]) -> CheckResult:
    policy, advice = facts.get("maxmemory-policy"), NO_EVICTION
    if policy is None:
        return _warning("Redis does not tell this user its maxmemory-policy", f"look for yourself: {advice}")
    if policy == "noeviction":
        return CheckResult(True, "Redis evicts no keys")
    unlimited = facts.get("maxmemory") == "0"
    when = "once somebody sets maxmemory" if unlimited else "when its memory is full"
    return _warning(f"Redis evicts keys {when} (maxmemory-policy {policy}), and jobs with them", advice)


def _persistence(facts: Mapping[str, str]) -> CheckResult:
    """Nothing is said where Redis does not tell."""
    if facts.get("aof_enabled") == "0" and facts.get("save") == "":
        advice = "set 'appendonly yes' in redis.conf; docs/how-to/configure tells what each choice costs"
        return _warning("Redis keeps nothing on disk: a restart loses what waits", advice)
    return CheckResult(True, "Redis keeps what waits on disk" if "aof_enabled" in facts else "Redis does not tell")


def full(facts: Mapping[str, str], named: str = "queue") -> CheckResult:
    """Whether a storage has room, by what it tells of itself.

    :param named: what it holds, for people.
    """
    limit, used = int(facts.get("maxmemory") or "0"), int(facts.get("used_memory") or "0")
    if limit and used >= limit and facts.get("maxmemory-policy") == "noeviction":
        advice = "give it more memory ('maxmemory'), or remove what fills it; jobs take the fallback until then"
        return CheckResult(False, f"the memory of Redis is full: {used} of {limit} bytes", advice)
    free = facts.get("disk free")
    if free is not None and int(free) < min(LEAST_DISK, int(facts["disk size"]) * LEAST_PART):
        advice = f"free some of the disk that holds {facts['path']}; jobs take the fallback once it is full"
        return CheckResult(False, f"the disk of the {named} is nearly full: {int(free) // 1024**2} MB are free", advice)
    return CheckResult(True, "the storage has room")


def _in_clear(fault: clear_text.Fault | None, well: str) -> CheckResult:
    """Our own server does not start with such a fault."""
    return CheckResult(True, well) if fault is None else _warning(*fault, alarm=True)


def _clock(ahead: float) -> CheckResult:
    if abs(ahead) <= CLOCK_DIFFERENCE:
        return CheckResult(True, "this host and the storage have the same time")
    side = "behind" if ahead > 0 else "ahead of"
    return _warning(
        f"the clock of this host is {abs(ahead):.0f} s {side} that of the storage", "let NTP set both (timedatectl)"
    )


# -- workers ---------------------------------------------------------------------------------------------------------


def _worker(answer: Mapping[str, Any]) -> CheckResult:
    advice = "start one with 'pijobs worker', with the same pi.cfg"
    seen = answer["worker_seen_age"]
    if seen is None:
        return CheckResult(False, "no worker was ever seen", advice)
    if not answer["workers"] and seen > WORKER_ABSENT:
        return CheckResult(False, f"no live worker; the last sign of life was {seen:.0f} s ago", advice)
    if answer["workers"] and all(row["quiet"] for row in answer["workers"]):
        advice = "'pijobs quiet HOST --end', or start another"
        return CheckResult(False, "all live workers are quiet: they take nothing", advice)
    return CheckResult(True, f"last sign of life of a worker {seen:.1f} s ago")


def _keys(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    mine, live, without = _keyless(queue, answer)
    if not live:
        return CheckResult(True, "no live worker to ask")
    if len(without) < len(live):
        return CheckResult(True, f"key {mine} is known to a worker")
    return CheckResult(False, f"no live worker has the key {mine} of this process", SAME_KEYS)


def _keys_differ(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    mine, live, without = _keyless(queue, answer)
    if not without or len(without) == len(live):
        return CheckResult(True, "the live workers have the same keys")
    said = f"{len(without)} of {len(live)} live workers have another key than {mine}: {_processes(without)}"
    return _warning(said, SAME_KEYS)


def _server_keys(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    """Servers give no sign of life, but what they enqueue names the key. This process may be such a server itself."""
    mine, live = KeyRing.of(queue.settings).newest.id, [row for row in answer["workers"] if row["keys"]]
    newest = {row["keys"][0] for row in live}
    advice = "give it the line of PI_JOB_QUEUE_KEYS that the workers have, and restart it; docs/how-to/rotate-keys"
    if live and mine not in newest and all(mine in row["keys"] for row in live):
        said = f"this process encrypts with key {mine}, though all live workers have a newer one, {', '.join(newest)}"
        return _warning(said, advice)
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
        return CheckResult(True, "what workers meet is under their newest key" if live else "no live worker to ask")
    message = f"a server encrypts with another key than the workers' newest one, {', '.join(sorted(newest))}: {said}"
    return _warning(message, f"find it by 'pijobs config check' on each host; {advice}")


def _keyless(queue: Queue, answer: Mapping[str, Any]) -> tuple[str, list[Any], list[Any]]:
    mine, live = KeyRing.of(queue.settings).newest.id, answer["workers"]
    return mine, live, [row for row in live if mine not in row["keys"]]


def _jobs(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    live = answer["workers"]
    known = {name for row in live for name in row["jobs"]}
    missing = sorted(set(queue.registry) - known)
    if not live or not missing:
        return CheckResult(True, "each job is known to a live worker" if live else "no live worker to ask")
    advice = "install the plugins of this process for the workers, too, and restart them; 'pijobs plugins' lists them"
    return CheckResult(False, f"no live worker knows the jobs {', '.join(missing)}", advice)


@functools.cache
def _version() -> str:
    """Of this process; it reads files."""
    return metadata.version("pijobs")


def _versions(answer: Mapping[str, Any]) -> CheckResult:
    mine = _version()
    others = [row for row in answer["workers"] if row["version"] != mine]
    if not others:
        return CheckResult(
            True, f"the live workers run release {mine}" if answer["workers"] else "no live worker to ask"
        )
    said = f"{_processes(others)} run release {', '.join(sorted({row['version'] for row in others}))}, this is {mine}"
    return _warning(said, "finish the upgrade: restart what still runs the older release, workers first")


def _definitions(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    """Whether all read the same definitions: what one worker does not find waits until another one tries."""
    own = fingerprint(queue.settings)
    mine = None if own is None else own.read()
    told = [row for row in answer["workers"] if row["definitions"] is not None]
    advice = (
        "set SQLALCHEMY_DATABASE_URI for server and workers to one database that all hosts reach, by its full path; "
        "what was changed just now reaches each worker within 15 s"
    )
    if mine is not None and own is not None and (others := [row for row in told if row["definitions"] != mine]):
        said = f"{_processes(others)}: other definitions (SMTP servers and the like) than here, {own.place}"
        return CheckResult(False, f"{len(others)} of {len(told)} live workers read another database: {said}", advice)
    if len({row["definitions"] for row in told}) > 1:
        return CheckResult(False, f"the live workers read different definitions: {_processes(told)}", advice)
    if own is None:
        return CheckResult(True, "no plugin has definitions here")
    return CheckResult(True, f"definitions are in {own.place}" + (", for all live workers" if told else ""))


def _old_keys(queue: Queue) -> CheckResult:
    ring, own = KeyRing.of(queue.settings), fingerprint(queue.settings)
    under = {} if own is None else own.key_ids()
    older = {key: number for key, number in under.items() if key != ring.newest.id}
    if not older:
        return CheckResult(True, f"all secrets of definitions are under key {ring.newest.id}")
    said = ", ".join(f"{number} under {key}" for key, number in sorted(older.items()))
    advice = "once workers and servers have both keys: 'pijobs keys retire', before the old one is taken away"
    return _warning(f"secrets of definitions are not under the newest key {ring.newest.id}: {said}", advice)


def _processes(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(sorted({f"{row['host']} pid {row['pid']}" for row in rows}))
