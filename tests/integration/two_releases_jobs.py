"""Jobs that both releases know. Each effect is a line in the file of the variable ``EFFECTS``."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pijobs import Job, JobContext, RetryJob, RetryPolicy, hookimpl


def write(ctx: JobContext, n: int, again: bool = False, seconds: float = 0) -> None:
    time.sleep(seconds)
    if again:
        raise RetryJob("once more", delay=0.1, kwargs={"again": False})
    with Path(os.environ["EFFECTS"]).open("a") as effects:
        effects.write(f"{n} {os.environ['RELEASE']}\n")


@hookimpl
def register_jobs() -> list[Job]:
    return [Job("releases.write", write, retry=RetryPolicy(max_attempts=3), label=lambda n, **_: f"number {n}")]
