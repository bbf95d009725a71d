"""The jobs of these stories: they send a one-time password, and a notice that never expires."""

from __future__ import annotations

from dataclasses import dataclass, field

from pijobs import DestinationDown, FailJob, Job, JobContext, Limits, RetryPolicy, hookimpl
from pijobs.base import clock


@dataclass
class Wire:
    """What the servers got, and how they are."""

    sent: list[str] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    refuses: set[str] = field(default_factory=set)
    tries: int = 0
    #: Seconds that a server takes until it wants the content.
    slow: float = 0.0


wire = Wire()


def send(ctx: JobContext, to: str, code: str) -> None:
    wire.tries += 1
    server = to.partition("@")[2]
    if server in wire.down:
        raise DestinationDown(f"{server} does not answer")
    if server in wire.refuses:
        raise FailJob(f"{server} knows no {to}, and will not take {code}")
    if wire.slow:
        clock.sleep(wire.slow)
    ctx.check()  # the last moment before the effect
    wire.sent.append(code)


@hookimpl
def register_jobs() -> list[Job]:
    return [
        Job(
            "otp.send",
            send,
            expires=120,
            retry=RetryPolicy(max_attempts=4, delay=10, jitter=0),
            group=lambda to, code: to.partition("@")[2],
            limits=Limits(concurrency=2),
            label=lambda to, code: f"OTP to {to}",
        ),
        Job("notice.send", send),
    ]
