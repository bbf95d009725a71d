"""The content of a mail on the wire, and the server's last word on it."""

from __future__ import annotations

from pijobs_mail.engine.connection import Connection
from pijobs_mail.engine.delivery import Deadline, Mail
from pijobs_mail.engine.replies import ProtocolError, Reply
from pijobs_mail.engine.verdicts import NOT_UNDERSTOOD
from pijobs_mail.engine.words import why
from pijobs_mail.errors import ConnectionLost, FalseFeature, MaybeSent


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

    def _doubt(self, keyword: str, reply: Reply) -> None:
        """:raises FalseFeature: the server understood the commands before this one, but not this one."""
        if keyword in self.features and reply.code in NOT_UNDERSTOOD:
            raise FalseFeature(f"{self.endpoint} offers {keyword} and refuses it: {reply}", keyword=keyword)

    def _doubt_parameters(self, mail: Mail, reply: Reply) -> None:
        """:raises FalseFeature: the server does not understand MAIL with a parameter that it offers."""
        # RFC 5321 4.1.1.11 and RFC 3463 3.6; with another enhanced code, the reply is about the address.
        if reply.code not in (501, 504, 555) or not (reply.enhanced or "5.5.4").startswith("5.5."):
            return
        for keyword, said in (("8BITMIME", not mail.content.isascii()), ("SIZE", True)):
            if said and keyword in self.features:
                raise FalseFeature(f"{self.endpoint} offers {keyword} and refuses it: {reply}", keyword=keyword)
