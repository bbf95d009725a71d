"""How the sink behaves: its features, its faults, and the mails that it keeps."""

from __future__ import annotations

import asyncio
import math
import ssl
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

#: Where a fault can sit. END is the reply to the mail itself; with ``drop`` there the mail is kept nevertheless.
STEPS = ("GREETING", "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "END", "RSET", "QUIT")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a step instead of the right thing.

    :param reply: this reply; one with 421 closes the connection, too.
    :param times: the first so many times only; None: always.
    :param drop: close the connection without a reply.
    :param hang: never answer.
    :param raw: exactly these bytes instead of a reply.
    :param recipient: at RCPT: for addresses with this text in them.
    """

    reply: str = ""
    times: int | None = None
    drop: bool = False
    hang: bool = False
    raw: bytes = b""
    recipient: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """A mail that arrived.

    :ivar login: the user who sent it, if there was a login.
    :ivar at: seconds since the epoch.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes = field(repr=False)
    encrypted: bool
    login: str | None
    at: float

    @property
    def message(self) -> EmailMessage:
        message = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message


@dataclass
class _Counted:
    """A fault, and how often it will still happen."""

    fault: Fault
    left: float

    def applies(self, argument: str) -> bool:
        return self.left > 0 and self.fault.recipient in argument


class Behaviour:
    """What a sink is told to do, and what it was given.

    :param port: 0: any free one; :attr:`port` tells which.
    :param delay: seconds before each reply.
    :param faults: step to what happens there: a reply, a :class:`Fault`, or several, of which the first that applies.
    :param tls: context with a certificate; offered as STARTTLS, or spoken at once with ``implicit_tls``.
    :param logins: users and passwords; None: no login is asked for.
    :param tokens: users and access tokens, for logins by XOAUTH2; None: it is not offered.
    :param offers: further features to offer; ``CHUNKING`` among them, BDAT is understood.
    :param without: features not to offer, such as ``8BITMIME``.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        delay: float = 0.0,
        faults: Mapping[str, str | Fault | Sequence[Fault]] | None = None,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        logins: Mapping[str, str] | None = None,
        tokens: Mapping[str, str] | None = None,
        offers: Sequence[str] = (),
        without: Sequence[str] = (),
    ) -> None:
        self.host = host
        self.port = port
        self.delay = delay
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.logins = logins
        self.tokens = tokens
        self.offers = tuple(offers)
        self.without = frozenset(without)
        #: How often each step was reached.
        self.steps: Counter[str] = Counter()
        self.connections = 0
        self._faults: dict[str, list[_Counted]] = {}
        for step, fault in (faults or {}).items():
            self.fail_at(step, fault)
        self._mails: list[Received] = []
        self._arrived = threading.Condition()
        self._transports: set[asyncio.WriteTransport] = set()

    @property
    def mails(self) -> list[Received]:
        with self._arrived:
            return list(self._mails)

    def wait_for(self, count: int, timeout: float) -> list[Received]:
        """The mails, as soon as there are so many.

        :raises TimeoutError: when there are fewer after so many seconds.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._mails) >= count, timeout):
                raise TimeoutError(f"expected {count} mails within {timeout} s, found {len(self._mails)}")
            return list(self._mails)

    def keep(self, received: Received) -> None:
        with self._arrived:
            self._mails.append(received)
            self._arrived.notify_all()

    def fail_at(self, step: str, fault: str | Fault | Sequence[Fault]) -> None:
        """From now on this happens at the step."""
        if step not in STEPS:
            raise ValueError(f"step: expected one of {', '.join(STEPS)}, found {step!r}")
        faults = [Fault(fault)] if isinstance(fault, str) else [fault] if isinstance(fault, Fault) else fault
        self._faults[step] = [_Counted(each, math.inf if each.times is None else each.times) for each in faults]

    def fault_at(self, step: str, argument: str | None = None) -> Fault | None:
        """The fault that applies now, which counts it."""
        for counted in self._faults.get(step, ()):
            if counted.applies(argument or ""):
                counted.left -= 1
                return counted.fault
        return None

    def connected(self, transport: asyncio.WriteTransport, *, first: bool) -> None:
        self.connections += first
        self._transports.add(transport)

    def disconnected(self, transport: asyncio.BaseTransport | None) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            self._transports.discard(transport)
