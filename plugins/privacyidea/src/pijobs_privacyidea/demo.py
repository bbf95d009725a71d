"""The demo: a complete privacyIDEA with queue and worker, a challenge, its OTP mail, and a sign-in."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pijobs.base import clock
from pijobs_mail.sink.server import Received, Sink
from pijobs_privacyidea.instance import Instance

#: Seconds that an OTP mail may take.
PATIENCE = 60.0
_PIN = "1234"
_USER = "alice"
_SERVER = "otp"
#: Challenges per row of the table; the shortest time counts. At least seven; more until eight in a row were not 3 %
#: shorter than those before; at most twenty. A busy machine needs more of them.
_LEAST, _SETTLED, _MOST = 7, 8, 20


class DemoFailed(Exception):
    """The demo failed."""


class Demo:
    """Starts all parts of the demo, and stops them at the end of the ``with`` block.

    :param delay: seconds before each SMTP reply, in the slow rows.
    :param say: prints a line.
    """

    def __init__(self, *, delay: float, say: Callable[[str], object]) -> None:
        self._delay, self._say = delay, say
        self._stack = ExitStack()

    def __enter__(self) -> Demo:
        here = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pijobs-privacyidea-")))
        self.sink = self._stack.enter_context(Sink())
        queue = {
            "PI_JOB_QUEUE_CLASS": "pijobs_privacyidea.HueyQueue",
            "PI_JOB_QUEUE_URL": f"sqlite:///{here / 'queue.sqlite'}",
        }
        self.instance = self._stack.enter_context(Instance(here, queue))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def prepare(self) -> None:
        """Start privacyIDEA with a user and an e-mail token, and a worker."""
        self._say("setting up privacyIDEA: keys, tables, administrator …")
        self.instance.create()
        self.instance.serve()
        self.instance.work("-w", "4")
        self.instance.add_people(_USER)
        self._box(False)
        self.instance.ask("/system/setConfig", **{"email.identifier": _SERVER})
        self.instance.add_email_token(_USER, _PIN)
        self.instance.wait_for("/healthz")
        self._say(f"privacyIDEA at {self.instance.url}, its queue at {self.instance.url}/jobqueue/healthz")

    def show(self) -> None:
        """Run the demo. :raises DemoFailed: if a sign-in fails, or a mail does not arrive."""
        self._sign_in()
        comparison = compare(self.instance, self.sink, _SERVER, _USER, _PIN, self._delay)
        self._say("\n  box   SMTP reply after   challenge answered after")
        for box, delay, took in comparison.rows:
            self._say(
                f"  {'on ' if box else 'off'}        {delay * 1000:4.0f} ms                  {took * 1000:5.0f} ms"
            )
        self._say(
            f"\nwith the box on and {self._delay * 1000:.0f} ms per reply: {comparison.ratio:.2f} times as long as "
            "with it off and 0 ms"
        )
        self._say(f"the {comparison.challenges} OTP mails all arrived")

    def _sign_in(self) -> None:
        self._box(True)
        answer, mail, took = self._challenge()
        otp = _otp(mail)
        self._say(f"a challenge for {_USER}: answered after {took * 1000:.0f} ms; the mail came, with the OTP {otp}")
        if not self.instance.sign_in(_USER, otp, answer["detail"]["transaction_id"]):
            raise DemoFailed("the OTP of the mail was not taken")
        self._say("signed in with it")

    def _challenge(self) -> tuple[dict[str, dict[str, str]], Received, float]:
        """The answer, the mail, and the seconds until the answer."""
        known = len(self.sink.mails)
        began = clock.monotonic()
        answer = self.instance.challenge(_USER, _PIN)
        took = clock.monotonic() - began
        if not answer["detail"].get("transaction_id"):
            raise DemoFailed(f"expected a challenge, found: {answer['detail'].get('message')}")
        return answer, self.sink.wait_for(known + 1, PATIENCE)[-1], took

    def _box(self, queued: bool) -> None:
        self.instance.set_smtp_server(_SERVER, self.sink.port, queued=queued)


@dataclass(frozen=True)
class Comparison:
    """Times of challenges.

    :ivar rows: box, seconds before each SMTP reply, seconds until the answer: the shortest, since longer times show a
        busy machine.
    :ivar challenges: number of challenges that were made.
    """

    rows: tuple[tuple[bool, float, float], ...]
    challenges: int

    @property
    def ratio(self) -> float:
        """The time with the box on and a slow server, divided by that with the box off and a fast one."""
        took = {(box, delay > 0): seconds for box, delay, seconds in self.rows}
        return took[True, True] / took[False, False]


def compare(instance: Instance, sink: Sink, server: str, user: str, pin: str, delay: float) -> Comparison:
    """Time challenges with the box off and on, and with a fast and a slow SMTP server.

    The variants take turns, so that a busy machine affects all alike. Each challenge begins after the former mail has
    arrived: the comparison shows the wait for the SMTP server, not how worker and server share a processor.
    """
    shortest: dict[tuple[bool, float], float] = {}
    challenges, known = 0, len(sink.mails)

    def challenged() -> float:
        nonlocal challenges
        began = clock.monotonic()
        instance.challenge(user, pin)
        challenges += 1
        return clock.monotonic() - began

    def shorter(box: bool, pause: float) -> bool:
        instance.set_smtp_server(server, sink.port, queued=box)
        challenged()  # the first challenge after a change reloads the configuration
        sink.wait_for(known + challenges, PATIENCE)
        sink.delay = pause
        took, before = challenged(), shortest.get((box, pause), float("inf"))
        sink.delay = 0
        sink.wait_for(known + challenges, PATIENCE)
        shortest[box, pause] = min(took, before)
        return took < 0.97 * before

    shorter(False, delay)
    rounds = settled = 0
    while rounds < _LEAST or (settled < _SETTLED and rounds < _MOST):
        found = [shorter(False, 0), shorter(True, 0), shorter(True, delay)]
        rounds, settled = rounds + 1, 0 if any(found) else settled + 1
    order = ((False, 0.0), (False, delay), (True, 0.0), (True, delay))
    return Comparison(tuple((box, pause, shortest[box, pause]) for box, pause in order), challenges)


def _otp(mail: Received) -> str:
    part = mail.message.get_body(("plain",))
    found = re.search(r"\b\d{6}\b", part.get_content()) if part is not None else None
    if found is None:
        raise DemoFailed("the mail has no OTP in it")
    return found[0]
