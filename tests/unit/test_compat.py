"""Applications of huey and Celery: their decorators and calls, our jobs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import flask
import pytest

from pijobs import RetryJob, State, crontab, jobs_in
from pijobs.compat import CeleryTasks, HueyTasks, TaskFailed
from pijobs.errors import EncodeError
from pijobs.flask import JobQueue
from pijobs.request.queue import Queue
from pijobs.testing import Drained, ManualClock, assert_enqueued, drain, in_memory

huey, celery = HueyTasks("shop"), CeleryTasks("store")
failures: list[Exception] = []


@huey.task(retries=2, retry_delay=10)
def add(a: int, b: int = 1) -> int:
    if failures:
        raise failures.pop()
    return a + b


@huey.periodic_task(crontab(minute="0"))
def hourly() -> None: ...


@celery.task(max_retries=2, default_retry_delay=10, autoretry_for=(ConnectionError,))
def multiply(a: int, b: int) -> int:
    if failures:
        raise failures.pop()
    return a * b


@pytest.fixture
def queue(clock: ManualClock) -> Iterator[Queue]:
    failures.clear()
    app = flask.Flask("an_app")
    config = {"CLASS": "pijobs.HueyQueue", "URL": "memory://", "PLUGINS": [__name__]}
    app.config.update({f"PI_JOB_QUEUE_{name}": value for name, value in config.items()}, SECRET_KEY="s")
    JobQueue(app)
    queue: Queue = app.extensions["pijobs"].queue
    in_memory(queue, clock)
    with app.app_context():
        yield queue


def states(attempts: list[Drained]) -> list[State]:
    return [attempt.state for attempt in attempts]


def test_its_tasks_are_the_jobs_of_a_module() -> None:
    assert {job.name for job in jobs_in(__name__)} == {"shop.add", "shop.hourly", "store.multiply"}
    assert hourly.job.schedule is not None


def test_a_task_of_huey_is_enqueued_by_its_call_and_gives_a_result(queue: Queue) -> None:
    result = add(1, b=2)
    assert result.get() is None
    drain(queue)
    assert (result.get(), result(blocking=True), add.call_local(2)) == (3, 3, 3)
    with pytest.raises(EncodeError):
        add("1")  # type: ignore[arg-type]


def test_a_task_of_huey_is_scheduled(queue: Queue, clock: ManualClock) -> None:
    add.schedule((1,), delay=60)
    add.schedule(args=[2], kwargs={"b": 3}, eta=dt.datetime.fromtimestamp(clock.time() + 30))
    clock.advance(31)
    assert len(drain(queue)) == 1
    clock.advance(30)
    assert len(drain(queue)) == 1


def test_a_task_of_huey_is_tried_as_often_as_it_says(queue: Queue, clock: ManualClock) -> None:
    failures.extend([OSError(), OSError(), OSError()])
    result = add(1)
    assert states(drain(queue, clock=clock)) == [State.SCHEDULED, State.SCHEDULED, State.DEAD]
    with pytest.raises(TaskFailed, match="is dead"):
        result.get()


def test_a_task_of_celery_runs_here_when_it_is_called_and_is_enqueued_by_delay(queue: Queue) -> None:
    assert multiply(2, 3) == 6
    handle = multiply.delay(2, b=4)
    assert_enqueued(queue, "store.multiply", a=2, b=4)
    drain(queue)
    assert handle.result() == 8


def test_a_task_of_celery_is_applied_later(queue: Queue) -> None:
    handle = multiply.apply_async((2, 3), countdown=60, expires=300)
    assert handle.state is State.SCHEDULED and queue.present_storage().get(handle.id).deadline is not None


@pytest.mark.parametrize(
    ("error", "found"),
    [(ConnectionError(), ["scheduled", "done"]), (RetryJob(), ["scheduled", "done"]), (ValueError(), ["dead"])],
    ids=lambda value: type(value).__name__,
)
def test_a_task_of_celery_is_tried_again_as_it_asks(
    queue: Queue, clock: ManualClock, error: Exception, found: list[str]
) -> None:
    failures.append(error)
    multiply.delay(1, 2)
    assert states(drain(queue, clock=clock)) == found
