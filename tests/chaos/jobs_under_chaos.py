"""The job that the runs under faults enqueue. Loaded as a dotted-module plugin by servers and workers."""

from __future__ import annotations

import time

from acceptance.jobs_under_test import effect

from pijobs import Job, JobContext, RetryPolicy, hookimpl

NAME = "chaos.run"


def run(ctx: JobContext, work: float, failures: int, ballast: str = "") -> None:
    """Work, fail the first attempts, and have an effect, unless it is too late for that.

    The line of the effect tells when it happened by the host's clock, whatever the worker takes for the time.
    """
    end = time.monotonic() + work
    while (left := end - time.monotonic()) > 0:
        time.sleep(left)
    if ctx.attempt <= failures:
        raise RuntimeError(f"attempt {ctx.attempt} fails")
    ctx.check()
    effect("run", f"{ctx.id} {time.clock_gettime(time.CLOCK_REALTIME):.3f}")


@hookimpl
def register_jobs(settings: object) -> list[Job]:
    return [Job(NAME, run, retry=RetryPolicy(max_attempts=5, delay=0.1, jitter=0.5))]
