"""The options of the sink: its features, its faults, and the received mails."""

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

#: The steps that can fail. END is the reply to the mail itself; with ``drop`` there, the sink still keeps the mail.
STEPS = ("GREETING", "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "END", "RSET", "QUIT")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault at a step.

    :param reply: the sink sends this reply; after one with 421, it closes the connection.
    :param times: number of times; None: always.
    :param drop: close the connection without a reply.
    :param hang: never answer.
    :param raw: send exactly these bytes instead of a reply.
    :param recipient: at RCPT: only for addresses that contain this text.
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

    :ivar login: the user who logged in; None: no login.
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
    """A fault, and how often it will happen again."""

    fault: Fault
    left: float

    def applies(self, argument: str) -> bool:
        return self.left > 0 and self.fault.recipient in argument


class Behaviour:
    """The options of a sink, and the received mails.

    :param port: 0: any free port; then :attr:`port` is the one in use.
    :param delay: seconds before each reply.
    :param faults: by step: a reply, a :class:`Fault`, or several, of which the first that applies happens.
    :param tls: context with a certificate; offered as STARTTLS, or used from the start with ``implicit_tls``.
    :param logins: users and passwords; None: no login is required.
    :param tokens: users and access tokens for XOAUTH2; None: it is not offered.
    :param offers: further features to offer; with ``CHUNKING``, the sink accepts BDAT.
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
        """Wait until there are ``count`` mails. Returns all.

        :raises TimeoutError: if there are fewer after ``timeout`` seconds.
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
        """Set the faults of a step from now on. :raises ValueError: for an unknown step."""
        if step not in STEPS:
            raise ValueError(f"step: expected one of {', '.join(STEPS)}, found {step!r}")
        faults = [Fault(fault)] if isinstance(fault, str) else [fault] if isinstance(fault, Fault) else fault
        self._faults[step] = [_Counted(each, math.inf if each.times is None else each.times) for each in faults]

    def fault_at(self, step: str, argument: str | None = None) -> Fault | None:
        """The fault that applies now; uses up one of its times."""
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
