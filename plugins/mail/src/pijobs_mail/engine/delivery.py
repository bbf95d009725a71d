"""The parameters and results of the engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pijobs_mail.engine.oauth import Grant
from pijobs_mail.engine.replies import Reply, Step, Verdict

#: Seconds to wait for the reply to the end of the data (RFC 5321 4.5.3.2.6): a client that gives up early sends the
#: mail twice.
FINAL_TIMEOUT = 600.0
#: Mails over one connection, unless the server is known to accept more: Exim delivers this many at once, and leaves the
#: others to its queue run (smtp_accept_queue_per_connection). Postfix, which its greeting reveals, has no such limit.
MAILS_PER_CONNECTION, MAILS_TO_POSTFIX = 10, 100


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server, and how to connect to it. Equal endpoints can share a connection.

    :param timeout: seconds for connecting and for each reply.
    :param login_without_tls: whether login and password may be sent to another machine without TLS.
    :param verify: whether certificate and host name must be right.
    :param ca_file: PEM file of authorities to trust besides the system's.
    :param oauth: provides the access token for XOAUTH2, instead of a password.
    :param mails: how many may be sent over one connection; None: the greeting of the server decides.
    :param ehlo: our name in EHLO; None: the host's name, or its address.
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
    """An envelope and its content. The addresses are already checked.

    :param careful: send the content only after the server accepted the envelope, which costs a round trip. Then a
        connection that is lost before leaves no uncertainty.
    :param utf8: an address in the envelope or the header is not ASCII, so the server must offer SMTPUTF8.
    """

    sender: str = field(repr=False)
    recipients: tuple[str, ...] = field(repr=False)
    content: bytes = field(repr=False)
    careful: bool = False
    utf8: bool = False


@dataclass(frozen=True)
class Outcome:
    """The outcome for one recipient; never ``TROUBLE`` or ``LOGIN``."""

    verdict: Verdict
    reply: Reply = field(repr=False)
    #: The step that the reply answers.
    step: Step


@dataclass(frozen=True)
class Delivery:
    """The outcome of a mail.

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
    """The time of one mail.

    :param time_left: returns the remaining seconds; limits every wait before the effect.
    :param check: raises if the time is over; called right before the effect. Its exceptions pass through.
    :param last_word: seconds to wait for the reply to the mail, after its end.
    """

    time_left: Callable[[], float] = lambda: math.inf
    check: Callable[[], None] = lambda: None
    last_word: Callable[[], float] = lambda: FINAL_TIMEOUT

    def share(self, parts: int) -> Deadline:
        """The share of the first of several waits in the remaining time."""
        return replace(self, time_left=lambda: self.time_left() / parts)


NO_DEADLINE = Deadline()
