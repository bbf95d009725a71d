"""One setting for each option of the worker, so that a worker is configured by ``pi.cfg`` alone.

The setting of ``--worker-type`` is ``PI_JOB_QUEUE_WORKER_TYPE``, and so on. An option on the command line overrides it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pijobs.base.numbers import MAX_PRIORITY, MIN_PRIORITY, is_int, is_number
from pijobs.settings.setting import Setting, core, rows

WORKER_TYPES = ("thread", "process", "greenlet")


def reserve_of(text: object) -> tuple[int, int] | None:
    """Number and priority of ``"N:PRIORITY"``; None for another text."""
    match = re.fullmatch(r"(\d{1,6}):(-?\d{1,6})", text) if isinstance(text, str) else None
    if match is None or int(match[1]) < 1 or not MIN_PRIORITY <= int(match[2]) <= MAX_PRIORITY:
        return None
    return int(match[1]), int(match[2])


def address_of(text: object) -> tuple[str, int] | None:
    """Host and port of ``"HOST:PORT"``; None for another text."""
    host, _, port = str(text).rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        return None
    return host.strip("[]"), int(port)


def _switch(name: str, help: str) -> Setting[bool]:
    return core(name, False, "True or False", lambda v: isinstance(v, bool), help)


def _seconds(name: str, default: float, least: float, help: str) -> Setting[float]:
    accepts = lambda v: is_number(v) and v >= least  # noqa: E731
    return core(name, default, f"a number of seconds >= {least:g}", accepts, help)


# fmt: off
class WorkerSettings:
    """Settings of the worker."""

    workers = core("WORKERS", 8, "an integer of at least 1", lambda v: is_int(v) and v >= 1,
        "Worker: how many jobs run at once, in threads (or in processes or greenlets).")
    worker_type = core("WORKER_TYPE", "thread", "'thread', 'process' or 'greenlet'", lambda v: v in WORKER_TYPES,
        "Worker: what runs its jobs; 'greenlet' needs pip install 'pijobs[gevent]'.")
    reserve: Setting[Sequence[str]] = core("RESERVE", (), "a list of texts such as '1:10'",
        lambda v: isinstance(v, (tuple, list)) and all(reserve_of(one) is not None for one in v),
        "Worker: N more workers only for jobs of this priority and above, as 'N:PRIORITY'.",
        example=("1:10",))
    delay = _seconds("DELAY", 0.1, 0.01, "Worker: first wait between two tries while the storage is away, in seconds.")
    backoff = core("BACKOFF", 1.15, "a number >= 1", lambda v: is_number(v) and v >= 1,
        "Worker: factor between two of these waits.")
    max_delay = _seconds("MAX_DELAY", 1.0, 0.01, "Worker: the longest of these waits, at most 1.")
    health_check_interval = _seconds("HEALTH_CHECK_INTERVAL", 10.0, 0.1,
        "Worker: seconds between two checks for dead workers; at most half of PI_JOB_QUEUE_LEASE.")
    disable_health_check = _switch("DISABLE_HEALTH_CHECK", "Worker: do not replace workers that died.")
    max_tasks: Setting[int | None] = core(
        "MAX_TASKS", None, "an integer of at least 1 or None", lambda v: is_int(v) and v >= 1,
        "Worker: replace a worker after this many jobs.", example=10_000)
    shutdown_timeout = _seconds(
        "SHUTDOWN_TIMEOUT", 30.0, 0, "Worker: seconds that running jobs have to end after SIGTERM or SIGINT.")
    scheduler_interval = core(
        "SCHEDULER_INTERVAL", 1, "a divisor of 60", lambda v: is_int(v) and 1 <= v <= 60 and 60 % v == 0,
        "Worker: seconds between two checks of the periodic jobs.")
    no_periodic = _switch("NO_PERIODIC", "Worker: do not enqueue periodic jobs.")
    logfile: Setting[str | None] = core(
        "LOGFILE", None, "the path of a file, '-' or None", lambda v: isinstance(v, str) and v != "",
        "Worker: log to this file; '-' for standard error. None: privacyidea-queue.log in the working directory.",
        example="/var/log/privacyidea/queue.log")
    verbose = _switch("VERBOSE", "Worker: log details, too.")
    quiet = _switch("QUIET", "Worker: log warnings and errors only.")
    simple = _switch("SIMPLE", "Worker: short log lines, time and message.")
    app: Setting[str | None] = core("APP", None, "'module:factory'",
        lambda v: isinstance(v, str) and re.fullmatch(r"[\w.]+:\w+", v) is not None,
        "Worker: run jobs in the context of this Flask app (an app, or a function that makes one).",
        example="my_app:create_app")
    http: Setting[str | None] = core("HTTP", None, "'HOST:PORT'", lambda v: address_of(v) is not None,
        "Worker: answer /livez, /readyz and /metrics here.", example="127.0.0.1:9180")
# fmt: on


WORKER_SETTINGS = rows(WorkerSettings)
