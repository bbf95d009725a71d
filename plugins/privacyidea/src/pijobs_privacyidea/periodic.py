"""Runs privacyIDEA's periodic work by a worker, instead of by cron on each node.

privacyIDEA's database has its periodic tasks (``EventCounter``, ``SimpleStats``). A job looks each minute for due tasks
and enqueues an instance for each; a task never runs twice at a time. privacyIDEA runs a task on each of its nodes. Here
it runs once, and is noted as run for all nodes, so that a remaining ``privacyidea-cron`` does not run it again.

Its clean-ups are commands (``pi-manage audit rotate``). They run as with cron, each in its own process.
"""

from __future__ import annotations

import datetime as dt
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pijobs import FailJob, Job, JobContext, Limits, RetryJob, RetryPolicy, Scheduled, crontab
from pijobs.base import clock
from pijobs.errors import PijobsError
from pijobs.jobs import READING_ORDER
from pijobs.request.queue import Queue
from pijobs.settings import Settings
from pijobs_privacyidea import programs
from pijobs_privacyidea.settings import COMMANDS, TASKS, at

LOOK = "privacyidea.look_for_tasks"
TASK = "privacyidea.task"
COMMAND = "privacyidea.command."
#: Attempts of a task with "retry if failed"; after them it waits for its next time.
_ATTEMPTS = 5
_RETRY = RetryPolicy(max_attempts=_ATTEMPTS, delay=60, backoff=2, max_delay=3600)


def jobs(settings: Settings) -> list[Job]:
    """The jobs that the settings switch on."""
    commands = [_command_job(name, when, command) for name, (when, command) in settings[COMMANDS].items()]
    return [*(_task_jobs() if settings[TASKS] else ()), *commands]


# -- tasks -----------------------------------------------------------------------------------------------------------


def _task_jobs() -> list[Job]:
    look = Job(LOOK, look_for_tasks, schedule=crontab(), missed="once", expires=300, retry=RetryPolicy(max_attempts=2))
    task = Job(
        TASK, run_task, retry=_RETRY, timeout=programs.LONGEST, group=lambda task, **_: group_of(task),
        limits=Limits(concurrency=1), label=lambda task, name, **_: f"periodic task {name}",
    )  # fmt: skip
    return [look, task]


def group_of(task: int) -> str:
    """The group of a task, which allows one instance at a time."""
    return f"{TASK}:{task}"


def look_for_tasks(ctx: JobContext) -> None:
    """Enqueue each task that is due. Runs in privacyIDEA's app context."""
    from privacyidea.lib.periodictask import get_periodic_tasks
    from privacyidea.lib.queue import get_job_queue

    found = 0
    for row in get_periodic_tasks(active=True):
        if _is_due(row):
            found += 1
            call = {"task": row["id"], "name": row["name"]}
            get_job_queue().enqueue(TASK, (), call, key=str(row["id"]), on_conflict="keep")
    ctx.note(due=found)


def run_task(ctx: JobContext, task: int, name: str) -> None:
    """Run one task by privacyIDEA's function, unless it ran meanwhile. Runs in privacyIDEA's app context.

    :param task: id of the task. :param name: for people.
    """
    from privacyidea.lib.error import ResourceNotFoundError
    from privacyidea.lib.periodictask import execute_task, get_periodic_task_by_id

    try:
        row = get_periodic_task_by_id(task)
    except ResourceNotFoundError:
        raise FailJob(f"the periodic task {name!r} is not there any more") from None
    if not row["active"] or not _is_due(row):
        ctx.note(due="no longer")
        return
    ctx.check()
    error: Exception | None = None
    try:
        done = bool(execute_task(row["taskmodule"], row["options"]))
    except Exception as raised:  # any error of its module
        done, error = False, raised
    if done:
        _note_run(row)
        return
    why = f"the periodic task {name!r} failed" + (f" ({type(error).__name__})" if error else "")
    if row["retry_if_failed"] and ctx.attempt < _ATTEMPTS:
        raise RetryJob(why) from error
    _note_run(row)  # it waits for its next time
    raise FailJob(why) from error


def _is_due(row: Mapping[str, Any]) -> bool:
    comes = _next(row)
    return comes is not None and comes <= _now()


def _next(row: Mapping[str, Any]) -> dt.datetime | None:
    """The next time of a task, after its last run on any node; None for a task without a node, or with an invalid
    schedule."""
    from privacyidea.lib.periodictask import calculate_next_timestamp

    if not (nodes := list(filter(None, row["nodes"]))):
        return None
    ran = [row["last_runs"][node] for node in nodes if node in row["last_runs"]]
    once = {**row, "last_runs": {nodes[0]: max(ran)} if ran else {}}
    try:
        comes: dt.datetime = calculate_next_timestamp(once, nodes[0])
    except ValueError:
        return None
    return comes


def _note_run(row: Mapping[str, Any]) -> None:
    from privacyidea.lib.periodictask import set_periodic_task_last_run

    for node in filter(None, row["nodes"]):
        set_periodic_task_last_run(row["id"], node, _now())


def _now() -> dt.datetime:
    return dt.datetime.fromtimestamp(clock.time(), dt.timezone.utc)


def scheduled(queue: Queue) -> Iterator[Scheduled]:
    """The tasks as rows of the page "Schedule". Needs privacyIDEA's app context."""
    from privacyidea.lib.periodictask import get_periodic_tasks

    for row in get_periodic_tasks(active=True):
        comes = _next(row)
        ran = max(row["last_runs"].values(), default=None)
        instance, state, reason = _newest(queue, row["id"])
        when = f"{row['interval']} (local time)"
        yield Scheduled(
            f"{row['name']} ({row['taskmodule']})", when, _ms(comes), _ms(ran),
            instance=instance, state=state, reason=reason,
        )  # fmt: skip


def _ms(moment: dt.datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def _newest(queue: Queue, task: int) -> tuple[str, str, str]:
    """Id, state and reason of the newest instance of a task; empty texts if unknown."""
    try:
        storage = queue.places.storage
        pages = [storage.page(state, group=group_of(task), limit=1) for state in READING_ORDER]
    except PijobsError:
        return "", "", ""
    records = [record for page in pages for record in page.records]
    if not records:
        return "", "", ""
    newest = max(records, key=lambda record: record.created)
    return newest.id, newest.state.value, newest.reason or ""


# -- commands --------------------------------------------------------------------------------------------------------


def _command_job(name: str, when: str, command: str) -> Job:
    def run(ctx: JobContext) -> None:
        run_command(ctx, command)

    run.__doc__ = f"Runs {command!r}."
    return Job(
        COMMAND + name, run, schedule=at(when), missed="once", retry=RetryPolicy(max_attempts=3, delay=60),
        timeout=programs.LONGEST, group=lambda: COMMAND + name, limits=Limits(concurrency=1), label=lambda: command,
    )  # fmt: skip


def run_command(ctx: JobContext, command: str) -> None:
    """Run one of privacyIDEA's commands to its end.

    :raises RetryJob: if it fails.
    """
    # Some of privacyIDEA's commands need a date, and know no "now".
    today = _now().date().isoformat()
    program, *arguments = (word.replace("{today}", today) for word in shlex.split(command))
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        raise FailJob(f"expected the command {program} at {path.parent}, found none")
    programs.run(ctx, [str(path), *arguments])
