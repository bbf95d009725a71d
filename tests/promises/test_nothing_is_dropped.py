"""Promise 4: what a worker cannot read or does not know waits for one that can, and is never taken for done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from promises.otp_job import Wire

from pijobs import Queue, State
from pijobs.factory import build
from pijobs.testing import Drained, ManualClock, drain


def worker_of(queue: Queue, settings: dict[str, Any], tmp_path: Any) -> Queue:
    """Another process, with other settings, on the storage of the queue."""
    first = {"SECRET_KEY": "only for tests", "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_URL": "memory://"}
    other = build({**first, **settings}, directory=tmp_path).queue
    other.storage = queue.storage
    return other


@pytest.mark.parametrize(
    "lack",
    [{"SECRET_KEY": "another key of another host"}, {"PI_JOB_QUEUE_PLUGINS": []}],
    ids=["the key", "the job"],
)
def test_a_worker_that_lacks_something_leaves_it_to_another_one(
    lack: dict[str, Any],
    job_queue: Queue,
    job_clock: ManualClock,
    job_settings: dict[str, Any],
    drain: Callable[..., list[Drained]],
    tmp_path: Any,
    wire: Wire,
) -> None:
    handle = job_queue.enqueue("otp.send", kwargs={"to": "ada@example.com", "code": "111111"})
    run(worker_of(job_queue, {**job_settings, **lack}, tmp_path))
    record = job_queue.places.find(handle.id)[1]
    assert record.state in (State.QUEUED, State.SCHEDULED) and record.reason and wire.sent == []
    job_clock.advance(61)
    assert [attempt.state for attempt in drain()] == ["done"]
    assert wire.sent == ["111111"]


run = drain
