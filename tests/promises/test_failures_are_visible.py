"""Promise 8: a failure is seen where people look, and nothing that they see is a secret."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from promises.otp_job import Wire

from pijobs import Queue, State
from pijobs.observe.status import overview
from pijobs.testing import Drained


def test_a_dead_otp_is_told_by_status_record_and_log_without_the_code(
    job_queue: Queue, drain: Callable[..., list[Drained]], wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    wire.refuses = {"example.com"}
    handle = job_queue.enqueue("otp.send", kwargs={"to": "ada@example.com", "code": "111111"})
    drain(retries=True)
    record = job_queue.places.find(handle.id)[1]
    assert record.state is State.DEAD
    assert record.label == "OTP to a***@example.com" and "knows no" in (record.reason or "")
    assert overview(job_queue)["jobs"]["otp.send"]["dead"] == 1
    told = [one for one in caplog.messages if handle.id in one]
    assert told and "otp.send" in told[-1]
    for place in (*caplog.messages, str(record), str(overview(job_queue))):
        assert "111111" not in place and "ada@" not in place
