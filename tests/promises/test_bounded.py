"""Promise 7: memory and disk do not grow with time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from promises.otp_job import Wire

from pijobs import Queue
from pijobs.observe.status import overview
from pijobs.testing import Drained, ManualClock


@pytest.fixture
def job_settings(job_settings: dict[str, Any]) -> dict[str, Any]:
    return {**job_settings, "PI_JOB_QUEUE_KEEP_FINISHED": (3600, 10)}


def test_of_what_has_ended_only_the_newest_are_kept(
    job_queue: Queue, job_clock: ManualClock, drain: Callable[..., list[Drained]], wire: Wire
) -> None:
    for number in range(30):
        job_queue.enqueue("otp.send", kwargs={"to": "ada@example.com", "code": f"{number:06}"})
        drain()
        job_clock.advance(1)
    drain()  # its sign of life removes what is too much
    assert len(wire.sent) == 30
    assert overview(job_queue)["jobs"]["otp.send"]["done"] == 10
