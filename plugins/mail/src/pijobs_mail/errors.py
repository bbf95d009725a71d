"""What can go wrong with a mail, one tree.

::

    MailError
    ├── MessageError            the mail itself can't be sent; found before anything is enqueued
    │   └── AsciiOnly           the server takes no address beyond ASCII
    ├── ServerTrouble           the server takes no mail now; no fault of this one
    │   ├── LoginRefused        it does not take our login, or may not be given it
    │   ├── Busy                all connections that we may have are in use
    │   ├── TlsRefused          no connection that is encrypted and verified as asked for
    │   └── SigningFailed       the definition wants signed mails, and has nothing to sign them by
    ├── ConnectionLost          broken in the middle of a mail, before its end: it was not sent
    │   └── FalseFeature        the server does not keep what it offers; it was not sent
    └── MaybeSent               broken after the end of the mail, before the server's word: nobody knows

Messages may quote a reply of the server, which may quote an address: redact them before people see them.
"""

from __future__ import annotations

from pijobs.errors import PijobsError
from pijobs_mail.engine.replies import Reply


class MailError(PijobsError):
    """the mail could not be sent"""


class MessageError(MailError, ValueError):
    """the mail can't be sent as it is"""


class AsciiOnly(MessageError):
    """the SMTP server does not offer SMTPUTF8 (RFC 6531), which an address beyond ASCII needs"""


class ServerTrouble(MailError):
    """the SMTP server takes no mail now

    :param reply: what it said, if it said something.
    :param retry_after: seconds after which it asked to be tried again.
    :param supposed: it may be about the mail after all: other mails got the same reply.
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
    """the SMTP server does not take the login"""


class Busy(ServerTrouble):
    """all connections to the SMTP server are in use"""


class TlsRefused(ServerTrouble):
    """there is no encrypted and verified connection to the SMTP server"""


class SigningFailed(ServerTrouble):
    """mails by this SMTP server can't be signed"""


class ConnectionLost(MailError):
    """the connection was lost in the middle of the mail; it was not sent"""


class FalseFeature(ConnectionLost):
    """the SMTP server does not keep what it offers

    :param keyword: what it offered, such as ``CHUNKING``.
    """

    def __init__(self, message: str, *, keyword: str) -> None:
        self.keyword = keyword
        super().__init__(message)


class MaybeSent(MailError):
    """the connection was lost after the end of the mail; it may have been sent"""
