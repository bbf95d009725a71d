"""Sends the content of a mail, and reads the server's final reply."""

from __future__ import annotations

from pijobs_mail.engine.connection import Connection
from pijobs_mail.engine.delivery import Deadline, Mail
from pijobs_mail.engine.replies import ProtocolError, Reply
from pijobs_mail.engine.reporting import reason_of
from pijobs_mail.engine.verdicts import NOT_UNDERSTOOD
from pijobs_mail.errors import ConnectionLost, FalseFeature, MaybeSent


class ContentConnection(Connection):
    """A connection that can send content. Once its last byte is sent, the mail counts as possibly sent."""

    def _check_before_effect(self, deadline: Deadline) -> None:
        """Check the deadline and the connection, right before the server may accept the mail.

        :raises ConnectionLost: the server sent an unexpected reply, or closed the connection.
        """
        deadline.check()
        if not self._link.quiet():
            raise ConnectionLost(f"{self.endpoint} sent an unexpected reply, or closed the connection")

    def _send_content(self, content: bytes) -> None:
        try:
            self._link.send(content, self.endpoint.timeout)
        except OSError as error:
            message = f"the connection to {self.endpoint} broke in the middle of the mail: {reason_of(error)}"
            raise ConnectionLost(message) from None

    def _final_timeout(self, deadline: Deadline) -> float:
        """Seconds to wait for the final reply. The job's deadline does not limit them: the mail may have been sent."""
        return max(self.endpoint.timeout, deadline.final_timeout())

    def _final_reply(self, seconds: float) -> Reply:
        """:raises MaybeSent: there is no reply within the seconds, or not one that decides about the mail."""
        try:
            reply = self._link.reply(seconds)
        except (OSError, ProtocolError) as error:
            raise MaybeSent(f"no reply from {self.endpoint} to the complete mail: {reason_of(error)}") from None
        if 300 <= reply.code < 400:
            raise MaybeSent(f"expected the final reply of {self.endpoint} to the mail, found {reply.code}")
        return reply

    def _check_feature(self, keyword: str, reply: Reply) -> None:
        """:raises FalseFeature: the server offers the feature, but does not understand the command that uses it."""
        if keyword in self.features and reply.code in NOT_UNDERSTOOD:
            raise FalseFeature(f"{self.endpoint} offers {keyword} and refuses it: {reply}", keyword=keyword)

    def _check_parameters(self, mail: Mail, reply: Reply) -> None:
        """:raises FalseFeature: the server does not understand MAIL with a parameter that it offers."""
        # RFC 5321 4.1.1.11 and RFC 3463 3.6. With an enhanced code outside of 5.5.X, the reply is about the address.
        if reply.code not in (501, 504, 555) or not (reply.enhanced or "5.5.4").startswith("5.5."):
            return
        for keyword, used in (("8BITMIME", not mail.content.isascii()), ("SIZE", True)):
            if used and keyword in self.features:
                raise FalseFeature(f"{self.endpoint} offers {keyword} and refuses it: {reply}", keyword=keyword)
