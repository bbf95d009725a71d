"""Mistakes of the first day: everything seems to work, until mails are late or lost. ``pijobs config check`` and
readiness share this list. A mistake that stops jobs now is not ok; the others are warnings.
"""

from __future__ import annotations

import functools
import stat
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from pijobs.base import clock, threads
from pijobs.observe import clear_text
from pijobs.observe.key_checks import key_size, old_keys, processes_of, same_keys, server_keys, shared_key, warned
from pijobs.observe.status import fingerprint
from pijobs.plugins.hookspecs import CheckResult
from pijobs.request.enqueuer import WORKER_ABSENT
from pijobs.request.queue import Queue
from pijobs.settings import PREFIX, config_warnings

#: Seconds between the clocks of this host and of the storage that are worth a warning. The queue itself counts by
#: the storage's clock alone; a one-time password, a certificate and the Date of a mail do not.
CLOCK_DIFFERENCE = 5.0

#: Bytes that are left of a disk that is as good as full; of a small one three times what is kept for the workers
#: (:mod:`pijobs.storage.sql.room`).
LEAST_DISK, LEAST_PART = 50 * 1024**2, 3 / 8

Found = Iterator[tuple[str, CheckResult]]


def of_settings(queue: Queue) -> Found:
    """Checks that do not need the storage."""
    if queue.settings.file is not None:
        yield "config_file", _config_file(queue)
    settings = queue.settings
    if queue.storage is not None and clear_text.is_remote_kind(settings):
        yield "login", _in_clear(clear_text.login(settings), "the storage is on this machine, or requires a login")
        yield "tls", _in_clear(clear_text.tls(settings), "the storage is on this machine, or the connection has TLS")
    yield (
        "database_tls",
        _in_clear(clear_text.database(settings), "the database is on this machine, or the connection has TLS"),
    )
    if threads.are_stopped_between_requests():
        yield "threads", warned(threads.STOPPED, threads.ADVICE)
    if queue.spool is None and "spool" in queue.settings.fallback:
        yield "fallback", _no_spool()


def of_storage(queue: Queue, answer: Mapping[str, Any]) -> Found:
    """Checks of what the storage reports about itself.

    :param answer: of :func:`pijobs.observe.status.overview`.
    :raises StorageUnavailable: when it does not answer.
    """
    assert queue.storage is not None
    facts = queue.storage.diagnose()
    yield "key", key_size(queue)
    if "path given" in facts:
        yield "storage_path", _storage_path(facts)
    if "tls" in facts:
        yield "eviction", _eviction(facts)
        yield "eviction_policy", _eviction_policy(facts)
        yield "persistence", _persistence(facts)
    yield "storage_full", full(facts)
    yield "clock", _clock(queue.storage.now() / 1000 - clock.time())
    yield "worker", _worker(answer)
    yield "worker_keys", shared_key(queue, answer)
    yield "worker_keys_differ", same_keys(queue, answer)
    yield "server_keys", server_keys(queue, answer)
    yield "worker_jobs", _jobs(queue, answer)
    yield "worker_versions", _versions(answer)
    yield "definitions", _definitions(queue, answer)
    yield "old_keys", old_keys(queue)


# -- settings --------------------------------------------------------------------------------------------------------


def _config_file(queue: Queue) -> CheckResult:
    assert queue.settings.file is not None
    for warning in config_warnings(queue.settings.file):
        message, _, advice = warning.partition("; ")
        return warned(message, advice)
    return CheckResult(True, f"{queue.settings.file} is not readable by all")


def _no_spool() -> CheckResult:
    message = f"{PREFIX}SPOOL is not set: while the storage is away, jobs run in the request"
    advice = f"set it to a local file, such as /var/lib/privacyidea/spool.sqlite, or {PREFIX}FALLBACK = ('direct',)"
    return warned(message, advice)


# -- the storage -----------------------------------------------------------------------------------------------------


def _storage_path(facts: Mapping[str, str]) -> CheckResult:
    if facts["path given"] != "absolute":
        return warned(
            f"the path of the queue is relative: a process started in another folder has another queue; "
            f"here it is {facts['path']}",
            f"set {PREFIX}URL = 'sqlite:////{facts['path'].lstrip('/')}', with four slashes",
        )
    if int(facts["mode"], 8) & (stat.S_IRWXG | stat.S_IRWXO):
        return warned(f"other users may access {facts['path']}", "chmod 600 it")
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
        return warned("Redis does not tell this user its maxmemory-policy", f"check it yourself: {advice}")
    if policy == "noeviction":
        return CheckResult(True, "Redis evicts no keys")
    unlimited = facts.get("maxmemory") == "0"
    when = "once somebody sets maxmemory" if unlimited else "when its memory is full"
    return warned(f"Redis evicts keys {when} (maxmemory-policy {policy}), and jobs with them", advice)


def _persistence(facts: Mapping[str, str]) -> CheckResult:
    """No result if Redis does not report it."""
    if facts.get("aof_enabled") == "0" and facts.get("save") == "":
        advice = "set 'appendonly yes' in redis.conf; docs/how-to/configure says what each choice costs"
        return warned("Redis keeps nothing on disk: a restart loses all waiting jobs", advice)
    return CheckResult(
        True,
        "Redis keeps waiting jobs on disk"
        if "aof_enabled" in facts
        else "Redis does not say whether it keeps jobs on disk",
    )


def full(facts: Mapping[str, str], named: str = "queue") -> CheckResult:
    """Whether a storage has room, as it reports.

    :param named: what it holds, for people.
    """
    limit, used = int(facts.get("maxmemory") or "0"), int(facts.get("used_memory") or "0")
    if limit and used >= limit and facts.get("maxmemory-policy") == "noeviction":
        advice = "give it more memory ('maxmemory'), or remove what fills it; jobs take the fallback until then"
        return CheckResult(False, f"the memory of Redis is full: {used} of {limit} bytes", advice)
    free = facts.get("disk free")
    if free is not None and int(free) < min(LEAST_DISK, int(facts["disk size"]) * LEAST_PART):
        advice = f"free space on the disk that holds {facts['path']}; jobs take the fallback once it is full"
        return CheckResult(False, f"the disk of the {named} is nearly full: {int(free) // 1024**2} MB are free", advice)
    return CheckResult(True, "the storage has room")


def _in_clear(fault: clear_text.Fault | None, well: str) -> CheckResult:
    """Our own server does not start with such a fault."""
    return CheckResult(True, well) if fault is None else warned(*fault, alarm=True)


def _clock(ahead: float) -> CheckResult:
    if abs(ahead) <= CLOCK_DIFFERENCE:
        return CheckResult(True, "this host and the storage have the same time")
    side = "behind" if ahead > 0 else "ahead of"
    return warned(
        f"the clock of this host is {abs(ahead):.0f} s {side} that of the storage",
        "synchronise both with NTP (timedatectl)",
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
        advice = "run 'pijobs quiet HOST --end', or start another worker"
        return CheckResult(False, "all live workers are quiet: they take no jobs", advice)
    return CheckResult(True, f"last sign of life of a worker {seen:.1f} s ago")


def _jobs(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    live = answer["workers"]
    known = {name for row in live for name in row["jobs"]}
    missing = sorted(set(queue.registry) - known)
    if not live or not missing:
        return CheckResult(True, "live workers know each job" if live else "no live worker to ask")
    advice = "install the plugins of this process for the workers, too, and restart them; 'pijobs plugins' lists them"
    return CheckResult(False, f"no live worker knows the jobs {', '.join(missing)}", advice)


@functools.cache
def _version() -> str:
    """The release of this process; it reads files."""
    return metadata.version("pijobs")


def _versions(answer: Mapping[str, Any]) -> CheckResult:
    mine = _version()
    others = [row for row in answer["workers"] if row["version"] != mine]
    if not others:
        return CheckResult(
            True, f"the live workers run release {mine}" if answer["workers"] else "no live worker to ask"
        )
    said = f"{processes_of(others)} run release {', '.join(sorted({row['version'] for row in others}))}, this is {mine}"
    return warned(said, "finish the upgrade: restart the processes of the older release, workers first")


def _definitions(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    """Whether all processes read the same definitions: a job whose definition a worker does not find waits for another
    worker."""
    own = fingerprint(queue.settings)
    mine = None if own is None else own.read()
    told = [row for row in answer["workers"] if row["definitions"] is not None]
    advice = (
        "set SQLALCHEMY_DATABASE_URI for server and workers to one database that all hosts reach, by its full path; "
        "each worker notices a change within 15 s"
    )
    if mine is not None and own is not None and (others := [row for row in told if row["definitions"] != mine]):
        said = f"{processes_of(others)}: other definitions (SMTP servers and the like) than here, {own.place}"
        return CheckResult(False, f"{len(others)} of {len(told)} live workers read another database: {said}", advice)
    if len({row["definitions"] for row in told}) > 1:
        return CheckResult(False, f"the live workers read different definitions: {processes_of(told)}", advice)
    if own is None:
        return CheckResult(True, "no plugin has definitions here")
    return CheckResult(True, f"definitions are in {own.place}" + (", for all live workers" if told else ""))
