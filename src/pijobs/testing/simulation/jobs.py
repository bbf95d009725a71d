"""The plugin with the jobs of a history."""

from __future__ import annotations

from typing import Any

from pijobs import DestinationDown, FailJob, Job, JobContext, Limits, RetryJob, RetryPolicy, crontab, hookimpl
from pijobs.testing.simulation.present import here as world

#: Timeout of the jobs, in seconds.
TIMEOUT = 3.0
#: The rate limit of ``sim.rated``.
RATE = Limits(rate=3, per=2.0)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("this error can't be printed")


def work(ctx: JobContext, number: int, how: str = "quick", seconds: float = 0.0, place: str = "") -> None:
    """Behave as the call says (``how``), then have an effect; ``flaky`` and ``down`` fail in their first attempts."""
    here = world()
    books: Any = here.books  # type: ignore[attr-defined]
    with books.running(ctx, number):
        if seconds:
            here.pause(seconds)
        else:
            here.pause(here.random.random() * 0.004)
        if how == "kill":
            books.took_down(here.current)
            here.kill(here.current.process)  # type: ignore[union-attr]
        if how == "fail":
            raise FailJob("this one never works")
        if how == "interrupt" and not books.in_request(here.current.process):  # type: ignore[union-attr]
            raise KeyboardInterrupt
        if how in ("unprintable", "interrupt"):
            raise Unprintable
        if how == "flaky" and ctx.attempt < 3:
            raise OSError("not this time")
        if how == "down" and books.attempts(number) < 3:
            raise DestinationDown("nobody is there")
        if how == "retry" and ctx.attempt < 2:
            raise RetryJob(delay=0.5, kwargs={"number": number, "how": how, "seconds": seconds, "place": place})
        ctx.check()
        books.effect(ctx, number)


def tick(ctx: JobContext) -> None:
    ctx.check()
    world().books.ticked(ctx)  # type: ignore[attr-defined]


def _place(number: int, how: str = "quick", seconds: float = 0.0, place: str = "") -> str:
    return f"at {place}"


@hookimpl
def register_jobs() -> list[Job]:
    policy = RetryPolicy(max_attempts=4, delay=0.5, backoff=2, max_delay=4, jitter=0.1)
    more: dict[str, Any] = {"retry": policy, "timeout": TIMEOUT}
    return [
        Job("sim.job", work, **more),
        Job("sim.code", work, expires=3.0, priority=10, **more),
        Job("sim.single", work, group=_place, limits=Limits(concurrency=1), **more),
        Job("sim.rated", work, group=lambda number, how="quick", seconds=0.0, place="": f"rate {place}",
            limits=RATE, **more),
        Job("sim.new", work, **more),
        Job("sim.tick", tick, schedule=crontab(), **more),
    ]  # fmt: skip
