"""Promise 6: a dead destination takes neither the workers nor the time of the others."""

from __future__ import annotations

from collections.abc import Callable

from promises.otp_job import Wire

from pijobs import Queue
from pijobs.testing import Drained


def test_a_dead_server_does_not_hold_up_the_others(
    job_queue: Queue, drain: Callable[..., list[Drained]], wire: Wire
) -> None:
    wire.down = {"dead.example"}
    for number in range(50):
        job_queue.enqueue("otp.send", kwargs={"to": "ada@dead.example", "code": f"1111{number:02}"})
        job_queue.enqueue("otp.send", kwargs={"to": "grace@alive.example", "code": f"2222{number:02}"})
    drain()
    assert len(wire.sent) == 50
    # The circuit breaker opened: most of those for the dead server were not even tried.
    assert wire.tries - len(wire.sent) < 10
