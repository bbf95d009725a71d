"""Promise 2: the queue never stands in the way of a login."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from promises.otp_job import Wire

from pijobs import Queue, State

Down = Callable[[], AbstractContextManager[None]]


def test_without_a_storage_the_request_sends_the_otp_itself(job_queue: Queue, storage_down: Down, wire: Wire) -> None:
    with storage_down():
        handle = job_queue.enqueue("otp.send", kwargs={"to": "ada@example.com", "code": "111111"})
    assert (handle.via, handle.state) == ("direct", "done")
    assert wire.sent == ["111111"]


class TestWithASpool:
    @pytest.fixture
    def job_settings(self, job_settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
        return {
            **job_settings,
            "PI_JOB_QUEUE_SPOOL": str(tmp_path / "spool.sqlite"),
            "PI_JOB_QUEUE_FALLBACK": ["spool", "direct"],
        }

    def test_what_has_no_deadline_waits_in_a_file_of_this_machine(
        self, job_queue: Queue, storage_down: Down, wire: Wire
    ) -> None:
        with storage_down():
            handle = job_queue.enqueue("notice.send", kwargs={"to": "ada@example.com", "code": "hello"})
        assert handle.via == "spool" and wire.sent == []
        place, record = job_queue.places.find(handle.id)
        assert place is not job_queue.storage and record.state is State.QUEUED
