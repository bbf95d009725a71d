"""privacyIDEA's periodic tasks and clean-ups are done by workers, once for all nodes."""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from challenges import PATIENCE, pijobs
from preloaded import Programs
from quick_instance import QuickInstance
from redis_on_disk import Redis
from services import wait_until

from pijobs import FailJob, JobContext, RetryJob, State
from pijobs.errors import SettingsError
from pijobs_privacyidea import HueyQueue, periodic
from pijobs_privacyidea.host import make_app
from pijobs_privacyidea.instance import Instance

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

COMMANDS = {
    "challenges": ("* * * * *", "pi-manage config challenge cleanup"),
    "yearly": ("0 0 1 1 *", "pi-manage audit rotate --age 180"),
}
SETTINGS = {
    "PI_JOB_QUEUE_CLASS": "pijobs_privacyidea.HueyQueue", "PI_JOB_QUEUE_LEASE": 3,
    "PI_JOB_QUEUE_PRIVACYIDEA_TASKS": True, "PI_JOB_QUEUE_PRIVACYIDEA_COMMANDS": COMMANDS,
}  # fmt: skip
NODES = ["one", "two"]


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory, redis_on_disk: Redis, programs: Programs) -> Iterator[Instance]:
    """Without a server."""
    here = tmp_path_factory.mktemp("periodic")
    redis_on_disk.empty()
    with QuickInstance(here, {**SETTINGS, "PI_JOB_QUEUE_URL": redis_on_disk.url}, programs) as made:
        made.create()
        yield made


@pytest.fixture(scope="module")
def app(instance: Instance) -> flask.Flask:
    return make_app(instance.config)


@pytest.fixture
def task(app: flask.Flask) -> Iterator[int]:
    """One that was due a minute ago."""
    with app.app_context():
        made = make_task("SimpleStats", total_tokens="True")
        yield made
        from privacyidea.lib.periodictask import delete_periodic_task

        delete_periodic_task(made)


def make_task(module: str, *, retry: bool = True, **options: str) -> int:
    from privacyidea.lib.periodictask import set_periodic_task
    from privacyidea.models import PeriodicTask, db

    made: int = set_periodic_task(
        name="numbers", interval="* * * * *", nodes=NODES, taskmodule=module, options=options, retry_if_failed=retry
    )
    db.session.get(PeriodicTask, made).last_update = dt.datetime.utcnow() - dt.timedelta(minutes=2)
    db.session.commit()
    return made


def last_runs(task: int) -> dict[str, Any]:
    from privacyidea.lib.periodictask import get_periodic_task_by_id
    from privacyidea.models import db

    db.session.rollback()  # another process has written
    found: dict[str, Any] = get_periodic_task_by_id(task)["last_runs"]
    return found


def context(attempt: int = 1) -> JobContext:
    return JobContext(
        id="0af3c1", name=periodic.TASK, attempt=attempt, deadline=None, settings=HueyQueue({"keys": ["k"]}).settings,
        now=time.time, count=lambda *_: None, log=logging.LoggerAdapter(logging.getLogger("test"), {}),
    )  # fmt: skip


def test_a_worker_runs_tasks_and_commands_and_the_schedule_tells(instance: Instance, task: int) -> None:
    from privacyidea.lib.monitoringstats import get_values
    from privacyidea.lib.queue import get_job_queue

    def done(name: str) -> list[Any]:
        return list(get_job_queue().storage.page(State.DONE, name=name).records)

    worker = instance.work("-w", "2")
    try:
        wait_until(lambda: set(last_runs(task)) == set(NODES), PATIENCE, what="the task")
        wait_until(lambda: bool(done(periodic.COMMAND + "challenges")), PATIENCE, what="the command")
    finally:
        worker.kill()
        worker.wait()
    assert get_values(stats_key="total_tokens")
    assert "entries deleted" in str(done(periodic.COMMAND + "challenges")[0].history)
    rows = {row["name"]: row for row in json.loads(pijobs(instance, "schedule", "--json").stdout)}
    assert rows["privacyidea.command.challenges"]["last"] and rows["privacyidea.command.yearly"]["last"] is None
    assert rows["numbers (SimpleStats)"]["last"] and rows["numbers (SimpleStats)"]["instance"]


def test_a_task_that_was_run_meanwhile_is_left_alone(task: int) -> None:
    periodic.run_task(context(), task, "numbers")
    before = last_runs(task)
    again = context()
    periodic.run_task(again, task, "numbers")
    assert last_runs(task) == before and set(before) == set(NODES)
    assert again.notes == {"due": "no longer"}


@pytest.mark.parametrize(
    ("retry", "attempt", "raised", "noted"),
    [(True, 1, RetryJob, False), (True, 5, FailJob, True), (False, 1, FailJob, True)],
)
def test_a_task_that_fails_is_tried_again_as_its_administrator_wants_it(
    app: flask.Flask, retry: bool, attempt: int, raised: type[Exception], noted: bool
) -> None:
    from privacyidea.lib.periodictask import delete_periodic_task

    with app.app_context():
        broken = make_task("NoSuchModule", retry=retry)
        try:
            with pytest.raises(raised, match="'numbers' failed"):
                periodic.run_task(context(attempt), broken, "numbers")
            assert bool(last_runs(broken)) is noted
        finally:
            delete_periodic_task(broken)
        with pytest.raises(FailJob, match="not there any more"):
            periodic.run_task(context(), broken, "numbers")


def test_a_command_that_fails_tells_its_last_words() -> None:
    with pytest.raises(RetryJob, match=r"pi-manage ended with 2: .*No such command"):
        periodic.run_command(context(), "pi-manage nonsense")
    with pytest.raises(FailJob, match="expected the command pi-mangle"):
        periodic.run_command(context(), "pi-mangle")


@pytest.mark.parametrize(
    "given",
    [
        ("99 * * * *", "pi-manage audit rotate"),
        ("* * * *", "pi-manage audit"),
        ("* * * * *", "rm -r /"),
        "daily",
        ("", ""),
    ],
)
def test_a_command_or_a_time_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(SettingsError, match="expected a dictionary of names"):
        HueyQueue({"keys": ["k"], "privacyidea_commands": {"one": given}})
