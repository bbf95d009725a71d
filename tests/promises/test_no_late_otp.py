"""Promise 3: an OTP that is of no use any more is not sent."""

from __future__ import annotations

from collections.abc import Callable

from promises.otp_job import Wire

from pijobs import Queue, State
from pijobs.testing import Drained, ManualClock
from pijobs.testing.simulation.bad_worlds import BadWorld, BadWorlds

Drain = Callable[..., list[Drained]]
CALL = {"to": "ada@example.com", "code": "111111"}


def test_what_waited_too_long_expires(job_queue: Queue, job_clock: ManualClock, drain: Drain, wire: Wire) -> None:
    handle = job_queue.enqueue("otp.send", kwargs=CALL, expires=60)
    job_clock.advance(61)
    drain()
    assert job_queue.places.find(handle.id)[1].state is State.EXPIRED
    assert wire.tries == 0


def test_no_attempt_is_planned_beyond_the_deadline(job_queue: Queue, drain: Drain, wire: Wire) -> None:
    wire.down = {"example.com"}
    # Attempts after 0 and 10 s; the next one would be after 30 s.
    job_queue.enqueue("otp.send", kwargs=CALL, expires=25)
    attempts = drain(retries=True)
    assert attempts[-1].state is State.EXPIRED
    assert wire.sent == []


def test_a_server_that_is_slow_gets_no_content_after_the_deadline(bad_worlds: BadWorlds, wire: Wire) -> None:
    def a_slow_server(world: BadWorld) -> None:
        wire.__init__()  # type: ignore[misc]
        wire.slow = 3.0
        world.call("otp.send", CALL, at=1, expires=2)
        [instance] = world.run()
        assert wire.sent == [] and instance.state != "done"

    bad_worlds(a_slow_server, worlds=10)
