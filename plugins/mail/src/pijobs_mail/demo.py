"""``pijobs demo``: a slow SMTP server, one mail that is sent in the request, and one that is queued."""

from __future__ import annotations

from collections.abc import Callable

from pijobs.demo import PATIENCE, Answered, Demo, DemoFailed
from pijobs_mail.sink.server import Received, Sink


class MailDemo(Demo):
    """:param delay: seconds before each SMTP reply."""

    def __init__(self, *, delay: float, say: Callable[[str], object]) -> None:
        super().__init__(say=say)
        self._delay = delay

    def start_other_side(self) -> None:
        """A sink of mails."""
        self._sink = self.cleanup.enter_context(Sink(delay=self._delay))

    def show(self) -> None:
        """Send both mails and tell about them. :raises DemoFailed: when one does not arrive."""
        for identifier, queued in (("queued", True), ("inline", False)):
            values = {"server": self._sink.host, "port": self._sink.port, "sender": "pijobs@example.com"}
            self.post(f"/smtpserver/{identifier}", {**values, "timeout": 30, "enqueue_job": queued})
        answered = {identifier: self._send(identifier) for identifier in ("queued", "inline")}
        mails = self._arrived(len(answered))
        self.say(f"\nThe SMTP server waits {self._delay:g} s before each reply.")
        for identifier, answer in answered.items():
            arrived = mails[_recipient(identifier)].at - answer.at
            took = f"request answered after {answer.seconds * 1000:6.0f} ms, mail arrived after {arrived:.1f} s"
            self.say(f"  {identifier}: {took}")
        for identifier in answered:
            self.say(f"\n----- received for {_recipient(identifier)} -----")
            content = mails[_recipient(identifier)].content.decode(errors="replace")
            self.say(content.replace("\r\n", "\n").rstrip())

    def _send(self, identifier: str) -> Answered:
        values = {"identifier": identifier, "recipient": _recipient(identifier)}
        return self.post("/smtpserver/send_test_email", values)

    def _arrived(self, count: int) -> dict[str, Received]:
        try:
            return {mail.recipients[0]: mail for mail in self._sink.wait_for(count, PATIENCE)}
        except TimeoutError as error:
            raise DemoFailed(f"a mail did not arrive: {error}; the worker's log: {self.worker_log()}") from None


def _recipient(identifier: str) -> str:
    return f"{identifier}@example.com"
