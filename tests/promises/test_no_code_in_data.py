"""Promise 5: data never becomes code."""

from __future__ import annotations

import os

import pytest

from pijobs import Queue
from pijobs.errors import EncodeError, UnknownJob


class Evil:
    """What pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch stolen",)


def test_only_what_the_codec_knows_is_taken(job_queue: Queue) -> None:
    with pytest.raises(EncodeError, match="Evil"):
        job_queue.enqueue("otp.send", kwargs={"to": "ada@example.com", "code": Evil()})


def test_only_registered_jobs_run(job_queue: Queue) -> None:
    with pytest.raises(UnknownJob, match=r"os\.system"):
        job_queue.enqueue("os.system", args=("touch stolen",))
