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
from pijobs.base.told import Told
from pijobs.observe import clear_text
from pijobs.observe.key_checks import (
    NO_WORKER,
    key_size,
    old_keys,
    processes_of,
    same_keys,
    server_keys,
    shared_key,
    warned,
)
from pijobs.observe.status import fingerprint
from pijobs.plugins.hookspecs import CheckResult
from pijobs.request.enqueuer import WORKER_ABSENT
from pijobs.request.queue import Queue
from pijobs.settings import config_warnings

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
        well = Told("the storage is on this machine, or requires a login")
        yield "login", _in_clear(clear_text.login(settings), well)
        well = Told("the storage is on this machine, or the connection has TLS")
        yield "tls", _in_clear(clear_text.tls(settings), well)
    well = Told("the database is on this machine, or the connection has TLS")
    yield "database_tls", _in_clear(clear_text.database(settings), well)
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
    for message, advice in config_warnings(queue.settings.file):
        return warned(message, advice)
    return CheckResult(True, Told("{file} is not readable by all", file=queue.settings.file))


def _no_spool() -> CheckResult:
    message = Told("PI_JOB_QUEUE_SPOOL is not set: while the storage is away, jobs run in the request")
    advice = Told(
        "set it to a local file, such as /var/lib/privacyidea/spool.sqlite, or PI_JOB_QUEUE_FALLBACK = ('direct',)"
    )
    return warned(message, advice)


# -- the storage -----------------------------------------------------------------------------------------------------


def _storage_path(facts: Mapping[str, str]) -> CheckResult:
    path = facts["path"]
    if facts["path given"] != "absolute":
        return warned(
            Told(
                "the path of the queue is relative: a process started in another folder has another queue; "
                "here it is {path}",
                path=path,
            ),
            Told("set PI_JOB_QUEUE_URL = 'sqlite:////{path}', with four slashes", path=path.lstrip("/")),
        )
    if int(facts["mode"], 8) & (stat.S_IRWXG | stat.S_IRWXO):
        return warned(Told("other users may access {path}", path=path), Told("chmod 600 it"))
    return CheckResult(True, Told("{path} is an absolute path", path=path))


NO_EVICTION = Told(
    "set 'maxmemory-policy noeviction' in redis.conf; a full Redis then refuses jobs, and fallbacks take them"
)


def _eviction(facts: Mapping[str, str]) -> CheckResult:
    policy, evicted = facts.get("maxmemory-policy") or "", int(facts.get("evicted_keys", "0"))
    if evicted and policy.startswith("allkeys"):
        said = Told(
            "Redis evicted {number} keys (maxmemory-policy {policy}): jobs get lost", number=evicted, policy=policy
        )
        return CheckResult(False, said, NO_EVICTION)
    return CheckResult(True, Told("Redis evicted no jobs"))


def _eviction_policy(facts: Mapping[str, str]) -> CheckResult:
    policy = facts.get("maxmemory-policy")
    if policy is None:
        said = Told("Redis does not tell this user its maxmemory-policy")
        return warned(said, Told("check it yourself: {then}", then=NO_EVICTION))
    if policy == "noeviction":
        return CheckResult(True, Told("Redis evicts no keys"))
    unlimited = facts.get("maxmemory") == "0"
    when = Told("once somebody sets maxmemory" if unlimited else "when its memory is full")
    said = Told("Redis evicts keys {when} (maxmemory-policy {policy}), and jobs with them", when=when, policy=policy)
    return warned(said, NO_EVICTION)


def _persistence(facts: Mapping[str, str]) -> CheckResult:
    """No result if Redis does not report it."""
    if facts.get("aof_enabled") == "0" and facts.get("save") == "":
        advice = Told("set 'appendonly yes' in redis.conf; docs/how-to/configure says what each choice costs")
        return warned(Told("Redis keeps nothing on disk: a restart loses all waiting jobs"), advice)
    if "aof_enabled" not in facts:
        return CheckResult(True, Told("Redis does not say whether it keeps jobs on disk"))
    return CheckResult(True, Told("Redis keeps waiting jobs on disk"))


def full(facts: Mapping[str, str], named: Told = Told("queue")) -> CheckResult:
    """Whether a storage has room, as it reports.

    :param named: what it holds, for people.
    """
    limit, used = int(facts.get("maxmemory") or "0"), int(facts.get("used_memory") or "0")
    if limit and used >= limit and facts.get("maxmemory-policy") == "noeviction":
        advice = Told("give it more memory ('maxmemory'), or remove what fills it; jobs take the fallback until then")
        said = Told("the memory of Redis is full: {used} of {limit} bytes", used=used, limit=limit)
        return CheckResult(False, said, advice)
    free = facts.get("disk free")
    if free is not None and int(free) < min(LEAST_DISK, int(facts["disk size"]) * LEAST_PART):
        advice = Told(
            "free space on the disk that holds {path}; jobs take the fallback once it is full", path=facts["path"]
        )
        said = Told(
            "the disk of the {place} is nearly full: {free} MB are free", place=named, free=int(free) // 1024**2
        )
        return CheckResult(False, said, advice)
    return CheckResult(True, Told("the storage has room"))


def _in_clear(fault: clear_text.Fault | None, well: str) -> CheckResult:
    """Our own server does not start with such a fault."""
    return CheckResult(True, well) if fault is None else warned(*fault, alarm=True)


def _clock(ahead: float) -> CheckResult:
    if abs(ahead) <= CLOCK_DIFFERENCE:
        return CheckResult(True, Told("this host and the storage have the same time"))
    said = Told(
        "the clock of this host is {time:.0f} s behind that of the storage"
        if ahead > 0
        else "the clock of this host is {time:.0f} s ahead of that of the storage",
        time=abs(ahead),
    )
    return warned(said, Told("synchronise both with NTP (timedatectl)"))


# -- workers ---------------------------------------------------------------------------------------------------------


def _worker(answer: Mapping[str, Any]) -> CheckResult:
    advice = Told("start one with 'pijobs worker', with the same pi.cfg")
    seen = answer["worker_seen_age"]
    if seen is None:
        return CheckResult(False, Told("no worker was ever seen"), advice)
    if not answer["workers"] and seen > WORKER_ABSENT:
        said = Told("no live worker; the last sign of life was {seen:.0f} s ago", seen=seen)
        return CheckResult(False, said, advice)
    if answer["workers"] and all(row["quiet"] for row in answer["workers"]):
        advice = Told("run 'pijobs quiet HOST --end', or start another worker")
        return CheckResult(False, Told("all live workers are quiet: they take no jobs"), advice)
    return CheckResult(True, Told("last sign of life of a worker {seen:.1f} s ago", seen=seen))


def _jobs(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    live = answer["workers"]
    known = {name for row in live for name in row["jobs"]}
    missing = sorted(set(queue.registry) - known)
    if not live or not missing:
        return CheckResult(True, Told("live workers know each job") if live else NO_WORKER)
    advice = Told(
        "install the plugins of this process for the workers, too, and restart them; 'pijobs plugins' lists them"
    )
    return CheckResult(False, Told("no live worker knows the jobs {names}", names=", ".join(missing)), advice)


@functools.cache
def _version() -> str:
    """The release of this process; it reads files."""
    return metadata.version("pijobs")


def _versions(answer: Mapping[str, Any]) -> CheckResult:
    mine = _version()
    others = [row for row in answer["workers"] if row["version"] != mine]
    if not others:
        said = Told("the live workers run release {mine}", mine=mine)
        return CheckResult(True, said if answer["workers"] else NO_WORKER)
    said = Told(
        "{processes} run release {theirs}, this is {mine}",
        processes=processes_of(others), theirs=", ".join(sorted({row["version"] for row in others})), mine=mine,
    )  # fmt: skip
    return warned(said, Told("finish the upgrade: restart the processes of the older release, workers first"))


def _definitions(queue: Queue, answer: Mapping[str, Any]) -> CheckResult:
    """Whether all processes read the same definitions: a job whose definition a worker does not find waits for another
    worker."""
    own = fingerprint(queue.settings)
    mine = None if own is None else own.read()
    told = [row for row in answer["workers"] if row["definitions"] is not None]
    advice = Told(
        "set SQLALCHEMY_DATABASE_URI for server and workers to one database that all hosts reach, by its full path; "
        "each worker notices a change within 15 s"
    )
    if mine is not None and own is not None and (others := [row for row in told if row["definitions"] != mine]):
        said = Told(
            "{number} of {all} live workers read another database: "
            "{processes}: other definitions (SMTP servers and the like) than here, {place}",
            number=len(others), all=len(told), processes=processes_of(others), place=own.place,
        )  # fmt: skip
        return CheckResult(False, said, advice)
    if len({row["definitions"] for row in told}) > 1:
        said = Told("the live workers read different definitions: {processes}", processes=processes_of(told))
        return CheckResult(False, said, advice)
    if own is None:
        return CheckResult(True, Told("no plugin has definitions here"))
    said = Told(
        "definitions are in {place}, for all live workers" if told else "definitions are in {place}", place=own.place
    )
    return CheckResult(True, said)
