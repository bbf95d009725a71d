"""A queue with the job of the stories, and the servers that it sends to."""

from __future__ import annotations

from typing import Any

import pytest
from promises import otp_job


@pytest.fixture
def job_settings() -> dict[str, Any]:
    return {"PI_JOB_QUEUE_PLUGINS": ["promises.otp_job"]}


@pytest.fixture
def wire() -> otp_job.Wire:
    """What the servers got; each story begins with servers that answer."""
    otp_job.wire.__init__()  # type: ignore[misc]
    return otp_job.wire
