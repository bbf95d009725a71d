"""The parameters and results of the engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pijobs_mail.engine.oauth import Grant
from pijobs_mail.engine.replies import Reply, Step, Verdict

#: Seconds to wait for the reply to the end of the data (RFC 5321 4.5.3.2.6). A client that gives up earlier may send
#: the mail twice.
FINAL_TIMEOUT = 600.0
#: Mails over one connection by default: Exim delivers this many at once and leaves the others to its queue run
#: (smtp_accept_queue_per_connection). Postfix, recognized by its greeting, has no such limit.
MAILS_PER_CONNECTION, MAILS_TO_POSTFIX = 10, 100


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server, and how to connect to it. Equal endpoints can share a connection.

    :param security: ``"tls"`` from the first byte, ``"starttls"`` after the greeting, or ``"plain"``: no TLS.
    :param timeout: seconds for connecting and for each reply.
    :param login_without_tls: whether user name and password may be sent to another machine without TLS.
    :param verify: whether the certificate must be valid and match the host name.
    :param ca_file: PEM file of authorities to trust besides the system's.
    :param mails: how many mails may be sent over one connection; None: the server's greeting decides.
    :param ehlo: our name in EHLO; None: this host's name, or its address.
    :param oauth: how to get the access token for XOAUTH2, which replaces the password.
    """

    host: str
    port: int
    security: Literal["plain", "starttls", "tls"] = "plain"
    username: str = ""
    password: str = field(default="", repr=False)
    timeout: float = 10.0
    login_without_tls: bool = False
    verify: bool = True
    ca_file: str | None = None
    mails: int | None = None
    ehlo: str | None = None
    oauth: Grant | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Mail:
    """An envelope and its content. The addresses must have been checked.

    :param careful: send the content only after the server accepted the envelope, which costs a round trip. If the
        connection is lost before that, the mail was certainly not sent.
    :param utf8: an address in the envelope or the header is not ASCII, so the server must offer SMTPUTF8.
    """

    sender: str = field(repr=False)
    recipients: tuple[str, ...] = field(repr=False)
    content: bytes = field(repr=False)
    careful: bool = False
    utf8: bool = False


@dataclass(frozen=True)
class Outcome:
    """The outcome for one recipient. Its verdict is never ``TROUBLE`` or ``LOGIN``: these are raised."""

    verdict: Verdict
    reply: Reply = field(repr=False)
    #: The step that the reply answers.
    step: Step


@dataclass(frozen=True)
class Delivery:
    """The outcome of a mail.

    :ivar outcomes: by recipient.
    :ivar reply: the last reply of the server.
    :ivar queue_id: the server's id of the mail, if it reported one.
    """

    outcomes: Mapping[str, Outcome] = field(repr=False)
    reply: Reply = field(repr=False)
    queue_id: str | None = None

    def having(self, verdict: Verdict) -> dict[str, Reply]:
        """The recipients with this verdict, each with the reply that decided it."""
        return {who: outcome.reply for who, outcome in self.outcomes.items() if outcome.verdict is verdict}


@dataclass(frozen=True)
class Deadline:
    """The time limits of one mail.

    :param time_left: returns the remaining seconds; limits each wait before the content is sent.
    :param check: raises if the time is over; called right before the content is sent. Its exceptions pass through.
    :param final_timeout: returns the seconds to wait for the reply to the complete mail.
    """

    time_left: Callable[[], float] = lambda: math.inf
    check: Callable[[], None] = lambda: None
    final_timeout: Callable[[], float] = lambda: FINAL_TIMEOUT

    def share(self, parts: int) -> Deadline:
        """A deadline that leaves the first of several equal waits its part of the remaining time."""
        return replace(self, time_left=lambda: self.time_left() / parts)


NO_DEADLINE = Deadline()
