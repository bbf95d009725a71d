"""The content of a mail on the wire, and the server's last word on it."""

from __future__ import annotations

from pijobs_mail.engine.connection import Connection
from pijobs_mail.engine.delivery import Deadline
from pijobs_mail.engine.replies import ProtocolError, Reply
from pijobs_mail.engine.words import why
from pijobs_mail.errors import ConnectionLost, MaybeSent


class ContentConnection(Connection):
    """A connection that a content goes over: from its first byte on, the effect may have happened."""

    def _ready_for_effect(self, deadline: Deadline) -> None:
        deadline.check()
        if not self._link.quiet():
            raise ConnectionLost(f"{self.endpoint} said more than it was asked for, or hung up")

    def _send_mail(self, content: bytes) -> None:
        try:
            self._link.send(content, self.endpoint.timeout)
        except OSError as error:
            raise ConnectionLost(f"{self.endpoint} broke off in the middle of the mail: {why(error)}") from None

    def _patience(self, deadline: Deadline) -> float:
        """Seconds to wait for the reply to the mail. The time until the deadline does not matter any more, because the
        effect may have happened."""
        return max(self.endpoint.timeout, deadline.last_word())

    def _last_word(self, seconds: float) -> Reply:
        try:
            reply = self._link.reply(seconds)
        except (OSError, ProtocolError) as error:
            raise MaybeSent(f"no word from {self.endpoint} on the mail it was given: {why(error)}") from None
        if 300 <= reply.code < 400:
            raise MaybeSent(f"no word from {self.endpoint} on the mail it was given, but {reply.code}")
        return reply
