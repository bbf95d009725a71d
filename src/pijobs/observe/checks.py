"""The table of checks: what each checks, and its severity.

``/healthz``, ``pijobs status``, ``pijobs config check``, the pages, the metric ``pijobs_check_failing``, the alerts in
``contrib/prometheus`` and the reference use this table. Plugins add checks named ``<plugin>.<name>``; the result of
such a check contains its severity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pijobs.plugins.hookspecs import CheckResult

#: ``critical``: jobs are not run, or are lost, until somebody acts. ``warning``: somebody should look some time.
Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class Row:
    """One check.

    :ivar fails: when it fails, as a phrase for people.
    :ivar alert: the name of its own alert; None: the alert of all critical checks.
    """

    severity: Severity
    fails: str
    alert: str | None = None


TABLE: Mapping[str, Row] = {
    "queue": Row("warning", "CLASS names a class that is not ours, or can't be imported"),
    "config_file": Row("warning", "everybody can read pi.cfg, or it contains names that no loaded plugin knows"),
    "key": Row("warning", "the secret key is so short that it can be guessed"),
    "fallback": Row("warning", "no spool is configured, so jobs run in the request while the storage is away"),
    "storage": Row("critical", "the storage does not answer, is too old, or lacks rights", "PijobsStorageDown"),
    "storage_path": Row("warning", "the path of an SQLite queue is relative, or other users may access the file"),
    "storage_full": Row("critical", "the storage is full: the memory of Redis or the disk"),
    "loss": Row("critical", "the storage was emptied or restored from a backup, and lost acknowledged jobs"),
    "eviction": Row("critical", "Redis evicted keys, so jobs were lost"),
    "eviction_policy": Row("warning", "Redis may evict keys when its memory is full"),
    "persistence": Row("warning", "Redis keeps nothing on disk: a restart loses all waiting jobs"),
    "login": Row("warning", "a Redis on another machine requires no password"),
    "tls": Row("warning", "the connection to a storage on another machine has no TLS"),
    "database_tls": Row("warning", "the connection to a database of definitions on another machine has no TLS"),
    "clock": Row("warning", "the clocks of this host and of the storage differ by more than 5 s"),
    "worker": Row("critical", "no worker gives a sign of life", "PijobsNoWorker"),
    "worker_keys": Row("critical", "no live worker has the key that this process encrypts with"),
    "worker_keys_differ": Row("warning", "some live workers lack the key that this process encrypts with"),
    "server_keys": Row("warning", "a server encrypts with an older key than the workers' newest one"),
    "worker_jobs": Row("critical", "no live worker knows a job that this process may enqueue"),
    "worker_versions": Row("warning", "live workers run another release than this process"),
    "definitions": Row("critical", "the live workers read other definitions (of SMTP servers …) than this process"),
    "old_keys": Row("warning", "secrets of definitions use an older key, which you must not remove yet"),
    "unreadable": Row("critical", "instances have waited for more than 10 minutes for a worker that can run them"),
    "oldest": Row("critical", "a due instance that nothing defers is late (READY_MAX_AGE)", "PijobsWaitsTooLong"),
    "paused": Row("warning", "the queue or a destination is paused", "PijobsPaused"),
    "forgotten": Row("critical", "the queue or a destination has been paused for more than 4 hours"),
    "bypassed": Row("critical", "somebody bypasses the queue, so jobs run in the request"),
    "breakers": Row("critical", "a destination is down repeatedly, and instances wait", "PijobsDestinationDown"),
    "destinations": Row("warning", "a destination works, but has a problem"),
    "failures": Row("warning", "there are dead or expired instances"),
    "housekeeping": Row("warning", "instances that should be removed or expired pile up"),
    "totals": Row("warning", "the table of metrics is full, so new series are not counted"),
    "threads": Row("warning", "uWSGI runs no threads between requests"),
    "bounds": Row("warning", "so many instances of a job wait that BOUNDS limits further calls"),
    "spool": Row("critical", "the spool does not answer or is full, or no worker on this machine uses it"),
    "outbox": Row("critical", "the outbox in the application's database does not answer, or no process empties it"),
}  # fmt: skip


def judged(name: str, result: CheckResult) -> CheckResult:
    """The result with the severity from the table. The result of a plugin's check does not change."""
    row = TABLE.get(name)
    if row is None or (result.ok and not result.warning):
        return result
    critical = row.severity == "critical"
    return replace(result, ok=not critical, warning=not critical)


def severity_of(result: CheckResult) -> Severity | None:
    """None if the check is ok."""
    return "critical" if not result.ok else "warning" if result.warning else None
