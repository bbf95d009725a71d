"""The table of checks: what is looked at, and how bad it is. One severity each.

``/healthz``, ``pijobs status``, ``pijobs config check``, the pages, the metric ``pijobs_check_failing``, the alerts in
``contrib/prometheus`` and the reference of the documentation are made from it or held to it. Checks of plugins come on
top, under ``<plugin>.<name>``; they tell their severity by their result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pijobs.plugins.hookspecs import CheckResult

#: ``critical``: jobs are not done, or get lost, until somebody acts. ``warning``: somebody should look, some time.
Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class Row:
    """One check.

    :ivar fails: when it fails, for people.
    :ivar alert: the alert of its own; None: the one for all critical checks.
    """

    severity: Severity
    fails: str
    alert: str | None = None


TABLE: Mapping[str, Row] = {
    "queue": Row("warning", "the class that CLASS names is not ours, or could not be imported"),
    "config_file": Row("warning", "pi.cfg can be read by all, or sets names that no loaded plugin knows"),
    "key": Row("warning", "the secret key is so short that it can be guessed"),
    "fallback": Row("warning", "no spool is configured, so that jobs run in the request while the storage is away"),
    "storage": Row("critical", "the storage does not answer, or is too old or has too few rights", "PijobsStorageDown"),
    "storage_path": Row("warning", "the path of an SQLite queue is relative, or others may access the file"),
    "storage_full": Row("critical", "the storage takes no more: the memory of Redis or the disk is full"),
    "loss": Row("critical", "the storage was emptied, or is a copy from before: what it had acknowledged is gone"),
    "eviction": Row("critical", "Redis evicted keys, so that jobs got lost"),
    "eviction_policy": Row("warning", "Redis may evict keys when its memory is full"),
    "persistence": Row("warning", "Redis keeps nothing on disk: a restart loses what waits"),
    "login": Row("warning", "Redis on another machine asks for no password"),
    "tls": Row("warning", "a storage on another machine is spoken to without TLS"),
    "database_tls": Row("warning", "a database of definitions on another machine is spoken to without TLS"),
    "clock": Row("warning", "the clocks of this host and of the storage differ by more than 5 s"),
    "worker": Row("critical", "no worker gives a sign of life, or none was ever seen", "PijobsNoWorker"),
    "worker_keys": Row("critical", "no live worker has the key that this process encrypts with"),
    "worker_keys_differ": Row("warning", "some live workers lack the key that this process encrypts with"),
    "server_keys": Row("warning", "a server encrypts with an older key than the workers' newest one"),
    "worker_jobs": Row("critical", "no live worker knows a job that this process may enqueue"),
    "worker_versions": Row("warning", "live workers run another release than this process"),
    "definitions": Row("critical", "the live workers read other definitions (of SMTP servers …) than this process"),
    "old_keys": Row("warning", "secrets of definitions are under an older key, which must not be taken away yet"),
    "unreadable": Row("critical", "instances wait for more than 10 minutes for a worker that can run them"),
    "oldest": Row("critical", "a due instance that nobody holds back is late (READY_MAX_AGE)", "PijobsWaitsTooLong"),
    "paused": Row("warning", "the queue or a destination is paused", "PijobsPaused"),
    "forgotten": Row("critical", "the queue or a destination is paused for more than 4 hours"),
    "bypassed": Row("critical", "jobs run in the request, since somebody bypasses the queue"),
    "breakers": Row("critical", "a destination is down, again and again, and instances wait", "PijobsDestinationDown"),
    "destinations": Row("warning", "a destination works, but something is wrong with it"),
    "failures": Row("warning", "kept instances are dead or expired"),
    "housekeeping": Row("warning", "instances that should have been removed or expired pile up"),
    "totals": Row("warning", "the table of metrics is full, so that new series are not counted"),
    "threads": Row("warning", "uWSGI runs no threads between requests"),
    "bounds": Row("warning", "so many instances of a job wait that further calls take another way (BOUNDS)"),
    "spool": Row("critical", "the spool does not answer or is full, or nobody on this machine works from it"),
    "outbox": Row("critical", "the outbox in the application's database does not answer, or nobody empties it"),
}  # fmt: skip


def judged(name: str, result: CheckResult) -> CheckResult:
    """The result with the severity that the table gives to a check of ours; that of a plugin's check as it is."""
    row = TABLE.get(name)
    if row is None or (result.ok and not result.warning):
        return result
    critical = row.severity == "critical"
    return replace(result, ok=not critical, warning=not critical)


def severity_of(result: CheckResult) -> Severity | None:
    """None: all is well."""
    return "critical" if not result.ok else "warning" if result.warning else None
