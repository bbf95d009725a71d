"""What can go wrong with a mail, one tree.

::

    MailError
    ├── MessageError            the mail itself is invalid; found before it is enqueued
    │   └── AsciiOnly           the server accepts only ASCII addresses
    ├── ServerTrouble           the server accepts no mail now; not the fault of this mail
    │   ├── LoginRefused        it refuses our login, or we may not send it the login
    │   ├── Busy                all allowed connections are in use
    │   ├── TlsRefused          no connection with the required encryption and verification
    │   └── SigningFailed       the definition requires signed mails, and they can't be signed
    ├── ConnectionLost          lost before the end of the mail: it was not sent
    │   └── FalseFeature        the server does not do what it offers; it was not sent
    └── MaybeSent               lost after the end of the mail, before the reply: maybe it was sent

Messages may quote a reply of the server, which may contain an address: redact them before people see them.
"""

from __future__ import annotations

from pijobs.errors import PijobsError
from pijobs_mail.engine.replies import Reply


class MailError(PijobsError):
    """the mail could not be sent"""


class MessageError(MailError, ValueError):
    """the mail is invalid"""


class AsciiOnly(MessageError):
    """the SMTP server does not offer SMTPUTF8 (RFC 6531), which an address beyond ASCII needs"""


class ServerTrouble(MailError):
    """the SMTP server accepts no mail now

    :param reply: its reply, if there was one.
    :param retry_after: seconds after which it asked for another attempt.
    :param supposed: it may be about the mail after all; only a guess, because other mails got the same reply.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        reply: Reply | None = None,
        retry_after: float | None = None,
        supposed: bool = False,
    ) -> None:
        self.reply = reply
        self.retry_after = retry_after
        self.supposed = supposed
        super().__init__(message)


class LoginRefused(ServerTrouble):
    """the SMTP server refuses the login"""


class Busy(ServerTrouble):
    """all connections to the SMTP server are in use"""


class TlsRefused(ServerTrouble):
    """no encrypted and verified connection to the SMTP server is possible"""


class SigningFailed(ServerTrouble):
    """mails through this SMTP server can't be signed"""


class ConnectionLost(MailError):
    """the connection was lost in the middle of the mail; it was not sent"""


class FalseFeature(ConnectionLost):
    """the SMTP server does not do what it offers

    :param keyword: what it offered, such as ``CHUNKING``.
    """

    def __init__(self, message: str, *, keyword: str) -> None:
        self.keyword = keyword
        super().__init__(message)


class MaybeSent(MailError):
    """the connection was lost after the end of the mail; it may have been sent"""
