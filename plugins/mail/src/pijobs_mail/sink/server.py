"""An SMTP server for the demo and for tests: keeps what it is given, as slow and as faulty as it is told to be.

Runs on aiosmtpd, in a thread of its own::

    with Sink(delay=0.3, faults={"RCPT": Fault("451 4.7.1 try later", times=1)}) as sink:
        …  # talk to sink.host, sink.port
        sink.wait_for(1, timeout=5)
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from pijobs_mail.sink.protocol import STEPS, Fault, Protocol, Received

__all__ = ["STEPS", "Fault", "Received", "Sink"]


@dataclass
class _Counted:
    """A fault, and how often it will still happen."""

    fault: Fault
    left: float

    def applies(self, argument: str) -> bool:
        return self.left > 0 and self.fault.recipient in argument


class Sink:
    """A server on a port of this machine.

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
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp-sink", daemon=True)
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.WriteTransport] = set()

    def start(self) -> Sink:
        """Listen. :raises OSError: when the port is taken."""
        self._thread.start()
        try:
            self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        except BaseException:
            self.stop()
            raise
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Stop listening and drop all connections."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Sink:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

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

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(
            lambda: Protocol(self, self._loop),
            self.host,
            self.port,
            family=socket.AF_INET6 if ":" in self.host else socket.AF_INET,
            ssl=self.tls if self.implicit_tls else None,
        )

    async def _shut(self) -> None:
        # asyncio loses a connection that was accepted and has no transport yet when its server closes.
        await self._turns()
        if self._server is not None:
            self._server.close()
        for transport in list(self._transports):
            # A good-bye of TLS would wait for the other end's.
            transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._turns()

    @staticmethod
    async def _turns() -> None:
        """Some turns of the loop, in which it does what it has begun."""
        for _ in range(10):
            await asyncio.sleep(0)
