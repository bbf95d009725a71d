"""The core settings: the one source for validation, reference, ``pi.cfg.example`` and ``config show``."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pijobs.base.numbers import is_int, is_number, is_priority
from pijobs.settings.pages import PageSettings
from pijobs.settings.setting import PREFIX, Setting, core, rows
from pijobs.settings.worker import WorkerSettings

SCHEMES = (
    "redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "sqlite", "postgresql+psycopg", "mysql+pymysql",
    "mariadb+pymysql",
)  # fmt: skip
#: Accepted but not documented: another name, and the storage in memory for tests.
_MORE_SCHEMES = ("sqlite+pysqlite", "memory")
FALLBACKS = ("spool", "direct")
Durability = Literal["server", "disk", "replica"]
DURABILITIES: tuple[Durability, ...] = get_args(Durability)
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_JOB_OPTIONS = ("max_attempts", "delay", "backoff", "max_delay", "jitter", "expires", "priority", "timeout", "keep")


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _key(value: Any) -> bool:
    return isinstance(value, (str, bytes)) and len(value) > 0


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and urlsplit(value).scheme in (*SCHEMES, *_MORE_SCHEMES)


def _fallback(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(way in FALLBACKS for way in value)


def _plugins(value: Any) -> bool:
    return value is None or (isinstance(value, (tuple, list)) and all(_text(name) for name in value))


def _jobs(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str)
        and isinstance(options, dict)
        and all(option in _JOB_OPTIONS and _job_option(option, setting) for option, setting in options.items())
        for name, options in value.items()
    )


def _bounds(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str)
        and isinstance(bound, dict)
        and all(option in ("waiting", "age", "full") and _bound(option, setting) for option, setting in bound.items())
        for name, bound in value.items()
    )


def _bound(option: str, value: Any) -> bool:
    if option == "full":
        return value in ("direct", "refuse", "drop")
    if option == "waiting":
        return value is None or (is_int(value) and value >= 1)
    return value is None or (is_number(value) and value > 0)


def _job_option(option: str, value: Any) -> bool:
    if option == "priority":
        return is_priority(value)
    if option == "max_attempts":
        return is_int(value) and value >= 1
    if option in ("expires", "timeout", "keep"):
        return value is None or (is_number(value) and value > 0)
    if option == "backoff":
        return is_number(value) and value >= 1
    if option == "jitter":
        return is_number(value) and 0 <= value <= 1
    return is_number(value) and value >= 0


def _finished(value: Any) -> bool:
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    return pair and is_number(value[0]) and value[0] > 0 and is_int(value[1]) and value[1] >= 0


# fmt: off
class QueueSettings:
    """Settings of the queue: its storage, and how it treats instances."""

    queue_class = core(
        "CLASS", "", "'' or a dotted path such as 'pijobs.HueyQueue'",
        lambda v: v == "" or (isinstance(v, str) and _DOTTED.fullmatch(v) is not None),
        "Empty: no queue, every job runs in the request. 'pijobs.HueyQueue' turns the queue on; the historic "
        "'privacyidea.lib.queues.huey_queue.HueyQueue' does so, too, if privacyIDEA is not installed.",
        example="pijobs.HueyQueue",
    )
    url = core(
        "URL", "redis://localhost:6379/0", f"a URL that begins with one of {', '.join(s + '://' for s in SCHEMES)}",
        _is_url,
        "The storage of the queue: redis://, rediss://, unix:// (as redis-py reads them), "
        "redis+sentinel://[user:password@]host:port,host:port/SERVICE/DB, "
        "redis+cluster://[user:password@]host:port,host:port, or "
        "sqlite:///file, postgresql+psycopg://…, mysql+pymysql://… (as SQLAlchemy reads them).",
    )
    host: Setting[str | None] = core(
        "HOST", None, "a host name or an address, and nothing else",
        lambda v: isinstance(v, str) and re.fullmatch(r"[\w.%-]+|\[?[0-9a-fA-F:.]+(%\w+)?\]?", v) is not None,
        "Host of Redis, instead of URL.")
    port: Setting[int | None] = core("PORT", None, "a port from 1 to 65535", lambda v: is_int(v) and 1 <= v <= 65535,
        "Port of Redis, instead of URL.")
    db: Setting[int | None] = core("DB", None, "a database number of Redis, 0 or more", lambda v: is_int(v) and v >= 0,
        "Database of Redis, instead of URL.")
    password: Setting[str | None] = core(
        "PASSWORD", None, "a text", _text, "Password of Redis, with HOST.", secret=True)
    login_without_tls: Setting[Sequence[str]] = core(
        "LOGIN_WITHOUT_TLS", (), "a list of host names as the URLs of storage and database have them",
        lambda v: isinstance(v, (list, tuple)) and all(isinstance(host, str) for host in v),
        "Hosts of Redis, PostgreSQL and MariaDB that may be used without TLS, and of Redis without a password, on "
        "a separate network. Our own server refuses other hosts; this machine is always allowed.", example=["redis"])
    name = core(
        "NAME", "privacyidea", "a text of letters, digits, dots, dashes and underscores, at most 64",
        lambda v: isinstance(v, str) and re.fullmatch(r"[\w.-]{1,64}", v, re.ASCII) is not None,
        "Name of the queue; queues with different names are independent.",
    )
    immediate = core("IMMEDIATE", False, "True or False", lambda v: isinstance(v, bool),
        "Run jobs in the calling process, through the codec; for tests.")
    lease: Setting[float] = core(
        "LEASE", 10, "a number of seconds from 1 to 3600", lambda v: is_number(v) and 1 <= v <= 3600,
        "Seconds without a sign of life until the instances of a worker go back to the queue.")
    enqueue_timeout = core("ENQUEUE_TIMEOUT", 0.25, "a number of seconds from 0.01 to 30",
        lambda v: is_number(v) and 0.01 <= v <= 30, "Seconds that a request may wait for the storage.")
    enqueue_durability: Setting[Durability] = core(
        "ENQUEUE_DURABILITY", "server", "'server', 'disk' or 'replica'", lambda v: v in DURABILITIES,
        "What an enqueue waits for: 'server': as the server is configured; 'disk': until the storage has it on disk; "
        "'replica': until a replica has it, too. For Redis and PostgreSQL; an SQLite file is always 'disk'.")
    fallback: Setting[Sequence[str]] = core("FALLBACK", FALLBACKS, "a list of 'spool' and 'direct', or ()", _fallback,
        "What enqueue tries, in this order, if the storage does not answer; () raises QueueUnavailable.")
    direct_raises: Setting[bool | None] = core(
        "DIRECT_RAISES", None, "True, False or None", lambda v: v is None or isinstance(v, bool),
        "Whether the exception of a job that ran in the request as a fallback reaches the caller. None: only under "
        "privacyIDEA, whose callers inform the user. The handle, the log and the record have it in any case.")
    spool: Setting[str | Path | None] = core("SPOOL", None, "the absolute path of a local file",
        lambda v: isinstance(v, (str, Path)) and Path(v).is_absolute(),
        "A local SQLite file that stores jobs while the storage is away. Not set: no spool.",
        example="/var/lib/privacyidea/spool.sqlite")
    outbox = core("OUTBOX", False, "True or False", lambda v: isinstance(v, bool),
        "True: enqueue_on_commit stores the call in the transaction, in tables pijobs_* of the application's database "
        "(Flask-SQLAlchemy's, or SQLALCHEMY_DATABASE_URI), and it moves to the storage after the commit.")
    without_worker = core("WITHOUT_WORKER", "queue", "'queue' or 'direct'", lambda v: v in ("queue", "direct"),
        "'direct': a job with a deadline runs in the request if no worker gave a sign of life for 30 s.")
    encryption_keys: Setting[Sequence[str | bytes]] = core("KEYS", (), "a list of texts, newest first",
        lambda v: isinstance(v, (tuple, list)) and all(_key(key) for key in v),
        "Keys that encrypt stored data, newest first. Empty: one key is derived from SECRET_KEY.", secret=True)
    plugins: Setting[Sequence[str] | None] = core(
        "PLUGINS", None, "a list of plugin names or dotted modules, or None", _plugins,
        "The plugins to load; None: all installed plugins. A dotted module is a plugin without packaging.",
        example=("mail", "my_company.jobs"))
    jobs: Setting[Mapping[str, Mapping[str, Any]]] = core(
        "JOBS", {}, "a dictionary of job names, each with some of the options " + ", ".join(_JOB_OPTIONS), _jobs,
        "Options of jobs. They override the job's own options.",
        example={"mail.send": {"max_attempts": 8, "expires": 300, "priority": 10}})
    keep_finished: Setting[tuple[float, int]] = core(
        "KEEP_FINISHED", (24 * 3600, 10_000), "a pair (seconds > 0, number of records per job)", _finished,
        "Seconds to keep records of finished instances, and how many per job.")
    keep_dead: Setting[float] = core(
        "KEEP_DEAD", 7 * 24 * 3600, "a number of seconds > 0", lambda v: is_number(v) and v > 0,
        "Seconds to keep dead letters.")
    audit_keep: Setting[float | None] = core("AUDIT_KEEP", 365 * 24 * 3600, "a number of seconds > 0, or None",
        lambda v: v is None or (is_number(v) and v > 0),
        "Seconds to keep entries of the audit log; None: for ever.")
    max_size = core("MAX_SIZE", 10 * 1024 * 1024, "a number of bytes from 1024 to 512 MiB",
        lambda v: is_int(v) and 1024 <= v <= 512 * 1024 * 1024,
        "Largest body (the arguments of one call), in bytes. A larger one is refused before anything is sent.")
    max_age: Setting[float] = core(
        "MAX_AGE", 7 * 24 * 3600, "a number of seconds > 0", lambda v: is_number(v) and v > 0,
        "Seconds after which an instance without a deadline expires, counted from its first due time.")
    bounds: Setting[Mapping[str, Mapping[str, Any]]] = core(
        "BOUNDS", {"*": {"waiting": 100_000}}, "a dictionary of job names (or '*': all others), each with some of "
        "waiting (a number of instances), age (seconds) and full ('direct', 'refuse' or 'drop')", _bounds,
        "How many instances of a job may wait, and what happens to a call at that limit: it runs in the request "
        "(direct, the default), is refused (QueueFull), or replaces a waiting instance that is less urgent "
        "(drop). If there is none, the call itself is dropped if its priority is lower than the job's own.",
        example={"*": {"waiting": 100_000}, "news.send": {"waiting": 5000, "age": 3600, "full": "refuse"}})
    ready_max_age: Setting[float] = core(
        "READY_MAX_AGE", 60, "a number of seconds > 0", lambda v: is_number(v) and v > 0,
        "Age of the oldest due instance, in seconds, at which readiness turns red.")
    log_format = core("LOG_FORMAT", "classic", "'classic' or 'json'", lambda v: v in ("classic", "json"),
        "Format of the worker's log.")


class HostSettings:
    """Settings of Flask and privacyIDEA, and of the database."""

    secret_key: Setting[Any] = Setting(name="SECRET_KEY", default=None, expected="a text", secret=True,
        # A function of the host is called at first use.
        accepts=lambda v: _key(v) or (callable(v) and not isinstance(v, type)),
        help="Flask's secret key; server and worker need the same one.", example="change me: openssl rand -hex 32")
    database: Setting[str | None] = Setting(
        name=PREFIX + "DATABASE", default=None,
        expected="a URL that begins with sqlite://, postgresql+psycopg://, mysql+pymysql:// or mariadb+pymysql://",
        accepts=lambda v: isinstance(v, str) and bool(re.match(r"(sqlite|postgresql|mysql|mariadb)(\+\w+)?://", v)),
        help="Database of definitions and accounts, instead of the application's SQLALCHEMY_DATABASE_URI.",
        example="sqlite:////var/lib/pijobs/pijobs.sqlite")
    sqlalchemy_database_uri: Setting[str | None] = Setting(
        name="SQLALCHEMY_DATABASE_URI", default=None, expected="a URL as SQLAlchemy reads it",
        accepts=lambda v: isinstance(v, str) and "://" in v,
        help="Database of definitions and accounts, the same for all servers and workers. Not set: the file "
        "pijobs.sqlite beside pi.cfg. A relative SQLite file is in the instance folder ('instance' beside "
        "pi.cfg), as with Flask-SQLAlchemy. In an app with Flask-SQLAlchemy, its database is used. 'pijobs config "
        "check' prints the full path.")
    log_config: Setting[str | None] = Setting(
        name="PI_LOGCONFIG", default=None, expected="the path of a logging configuration (YAML, JSON or INI)",
        accepts=_text, help="Configure logging with this file, if it exists.")
    log_level: Setting[int | str] = Setting(
        name="PI_LOGLEVEL", default=logging.INFO, expected="a level of the logging module",
        accepts=lambda v: is_int(v) or (isinstance(v, str) and v.upper() in logging.getLevelNamesMapping())
        if hasattr(logging, "getLevelNamesMapping")
        else is_int(v) or isinstance(logging.getLevelName(str(v).upper()), int),
        help="Log level, as a number or a name.")
# fmt: on


#: The settings in the order of the reference.
CORE_SETTINGS: tuple[Setting, ...] = (
    *rows(QueueSettings), *rows(WorkerSettings), *rows(PageSettings), *rows(HostSettings),
)  # fmt: skip


def cross_faults(values: Mapping[str, Any]) -> list[str]:
    """Errors in the combination of several settings."""
    faults = []
    parts = [name for name in ("HOST", "PORT", "DB", "PASSWORD") if values.get(PREFIX + name) is not None]
    if parts and PREFIX + "URL" in values:
        faults.append(f"{PREFIX}URL: expected either a URL or {PREFIX}{parts[0]}, found both; remove one")
    elif parts and "HOST" not in parts:
        faults.append(f"{PREFIX}{parts[0]}: expected together with {PREFIX}HOST, found without it")
    url, spool = values.get(PREFIX + "URL"), values.get(PREFIX + "SPOOL")
    if spool and isinstance(url, str) and url.startswith("sqlite:") and urlsplit(url).path[1:] == str(spool):
        faults.append(f"{PREFIX}SPOOL: expected another file than that of {PREFIX}URL, found the same")
    if values.get(PREFIX + "CLASS") and not values.get(PREFIX + "KEYS") and not values.get("SECRET_KEY"):
        faults.append(f"SECRET_KEY: expected a text (or {PREFIX}KEYS), found neither")
    return faults
