"""A handle tells what became of a call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pijobs import FailJob, Handle, State, job
from pijobs.errors import InstanceNotFound, StorageUnavailable
from pijobs.factory import build
from pijobs.request.queue import Queue
from pijobs.testing import ManualClock, SwitchedStorage, drain, in_memory


@job("handle.write")
def write(text: str) -> None:
    if not text:
        raise FailJob("expected a text")


@pytest.fixture
def queue(clock: ManualClock) -> Queue:
    values = {"SECRET_KEY": "s", "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_URL": "memory://"}
    queue = build({**values, "PI_JOB_QUEUE_PLUGINS": [__name__]}).queue
    in_memory(queue, clock)
    return queue


@pytest.fixture
def slept(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """How long each pause was; the time passes by them alone."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    with monkeypatch.context() as patch:
        patch.setattr("pijobs.base.clock.sleep", sleep)
        patch.setattr("pijobs.base.clock.monotonic", clock.monotonic)
        yield pauses


def enqueue(queue: Queue, text: str = "x") -> Handle:
    return write.options(queue=queue).enqueue(text)


def test_it_can_be_looked_up_again(queue: Queue) -> None:
    first, second = enqueue(queue), enqueue(queue, "")
    drain(queue)
    assert (first.state, first.refresh().state) == (State.QUEUED, State.DONE)
    assert (second.refresh().state, second.refresh().reason) == (State.DEAD, "expected a text")
    assert first.refresh().id == first.id


def test_a_record_that_has_gone_is_told(queue: Queue) -> None:
    handle = enqueue(queue)
    drain(queue)
    queue.remove(handle.id)
    with pytest.raises(InstanceNotFound):
        handle.refresh()


def test_waiting_ends_with_the_instance(
    queue: Queue, slept: list[float], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = enqueue(queue)

    def sleep(seconds: float) -> None:
        clock.advance(seconds)
        slept.append(seconds)
        if len(slept) == 3:
            drain(queue)

    monkeypatch.setattr("pijobs.base.clock.sleep", sleep)
    assert handle.wait(10).state is State.DONE and len(slept) == 3


def test_waiting_ends_with_its_time(queue: Queue, slept: list[float]) -> None:
    assert enqueue(queue).wait(5).state is State.QUEUED
    assert sum(slept) == pytest.approx(5) and slept[0] < 0.1 and max(slept) <= 0.5


def test_a_storage_that_is_away_is_waited_for(queue: Queue, slept: list[float]) -> None:
    handle = enqueue(queue)
    assert isinstance(queue.storage, SwitchedStorage)
    with queue.storage.is_down():
        assert handle.wait(1).state is State.QUEUED
        with pytest.raises(StorageUnavailable):
            handle.refresh()


def test_what_ran_in_the_request_has_ended() -> None:
    queue = build({"PI_JOB_QUEUE_PLUGINS": [__name__]}).queue
    handle = enqueue(queue)
    assert handle.refresh() is handle and handle.wait(1) is handle and handle.state is State.DONE
