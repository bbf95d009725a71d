"""A session: a bound connection, shared by threads. One thread reads, another handles deliveries."""

from __future__ import annotations

import itertools
import logging
import queue
import selectors
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pijobs.base import clock, threads
from pijobs.base.network import addresses
from pijobs_sms.smpp.pdus import HEADER, Command, Pdu, Status, bind, decode, length_of

log = logging.getLogger(__name__)

#: Seconds without data after which we send an enquiry; after as many more, the server counts as gone.
SILENCE = 30.0
#: Most deliveries that wait to be handled.
_MOST = 1000


class SessionLost(Exception):
    """the session ended before the answer came

    :param sent: whether the request may have reached the server.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(message)


@dataclass(frozen=True)
class Account:
    """Server and login of a session. ``tls`` is None for an unencrypted connection."""

    host: str
    port: int
    system_id: str
    password: str = field(repr=False)
    system_type: str = ""
    tls: ssl.SSLContext | None = None


@dataclass
class _Waiting:
    done: threads.Event = field(default_factory=lambda: threads.Event())
    answer: Pdu | None = None


class Session:
    """
    :param received: called with each deliver_sm, in a separate thread; returns the status of the answer.
    :param seconds: for look-up, connection, TLS and bind together.
    :raises OSError: if it can't connect. :raises SessionLost: if there is no answer.
    """

    def __init__(self, account: Account, received: Callable[[Pdu], int], seconds: float) -> None:
        until = clock.monotonic() + seconds
        self._socket = _connect(account, seconds)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._received = received
        self._deliveries: queue.Queue[Pdu | None] = queue.Queue(_MOST)
        self._lock = threads.Lock()
        self._sequence = itertools.cycle(range(1, 0x80000000))
        self._waiting: dict[int, _Waiting] = {}
        self._closed = False
        for work in (self._read, self._deliver):
            threads.Thread(target=work, name="pijobs-smpp", daemon=True).start()
        body = bind(account.system_id, account.password, account.system_type)
        try:
            self.bound = self.ask(Command.BIND_TRANSCEIVER, body, until - clock.monotonic()).status
        except SessionLost:
            self.close()
            raise

    @property
    def is_alive(self) -> bool:
        return not self._closed

    def ask(self, command: Command, body: bytes, seconds: float) -> Pdu:
        """Send a request and wait for its answer.

        :raises SessionLost: if it does not come in time, or the session ends.
        """
        with self._expecting() as (sequence, waiting):
            try:
                self._send(Pdu(command, sequence, 0, body))
            except OSError as error:
                self.close()
                raise SessionLost(f"broke off: {error.strerror or error}", sent=True) from None
            if not waiting.done.wait(max(0.0, seconds)):
                raise SessionLost(f"no answer within {seconds:.1f} s", sent=True)
        if waiting.answer is None:
            raise SessionLost("the session ended before the answer", sent=True)
        return waiting.answer

    def close(self) -> None:
        """Wake all threads that wait for an answer: none will come."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting.values())
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # the reading thread notices this, and closes it
        for one in waiting:
            one.done.set()

    def unbind(self, seconds: float = 1.0) -> None:
        """Unbind, and close the connection."""
        with suppress(SessionLost):
            self.ask(Command.UNBIND, b"", seconds)
        self.close()

    @contextmanager
    def _expecting(self) -> Iterator[tuple[int, _Waiting]]:
        waiting = _Waiting()
        with self._lock:
            if self._closed:
                raise SessionLost("the session has ended", sent=False)
            sequence = next(self._sequence)
            self._waiting[sequence] = waiting
        try:
            yield sequence, waiting
        finally:
            with self._lock:
                self._waiting.pop(sequence, None)

    def _send(self, pdu: Pdu) -> None:
        with self._lock:
            self._socket.sendall(pdu.encode())

    # -- the thread that reads -------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while True:
                header = self._exactly(HEADER, may_ask=True)
                self._take(decode(header, self._exactly(length_of(header) - HEADER)))
        except (OSError, ValueError) as error:
            if not self._closed:
                log.info("SMPP session ended: %s", error)
        finally:
            self.close()
            self._selector.close()
            self._socket.close()
            self._deliveries.put(None)

    def _deliver(self) -> None:
        while (pdu := self._deliveries.get()) is not None:
            with suppress(OSError):
                self._send(pdu.answer(self._received(pdu), b"\0"))

    def _exactly(self, number: int, *, may_ask: bool = False) -> bytes:
        received = b""
        while len(received) < number:
            if not self._is_readable():
                if received or not may_ask:
                    raise TimeoutError("the server is silent")
                may_ask = False
                self._send(Pdu(Command.ENQUIRE_LINK, next(self._sequence)))
                continue
            chunk = self._receive(number - len(received))
            if chunk == b"":
                raise ConnectionError("the server closed it")
            received += chunk or b""
        return received

    def _receive(self, number: int) -> bytes | None:
        """Read bytes; None if TLS had data, but none for us. The lock keeps OpenSSL from reading and writing at once,
        and no thread waits within it."""
        with self._lock:
            self._socket.settimeout(0)
            try:
                return self._socket.recv(number)
            except (BlockingIOError, ssl.SSLWantReadError):
                return None
            finally:
                with suppress(OSError):
                    self._socket.settimeout(SILENCE)

    def _is_readable(self) -> bool:
        """Whether data or the end of the stream arrives within :data:`SILENCE`."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return bool(self._selector.select(SILENCE))

    def _take(self, pdu: Pdu) -> None:
        if pdu.command & Command.ANSWER:
            with self._lock:
                waiting = self._waiting.get(pdu.sequence)
            if waiting is not None:
                waiting.answer = pdu
                waiting.done.set()
        elif pdu.command == Command.DELIVER_SM:
            try:
                self._deliveries.put_nowait(pdu)
            except queue.Full:
                self._send(pdu.answer(Status.ESME_RMSGQFUL, b"\0"))
        elif pdu.command == Command.ENQUIRE_LINK:
            self._send(pdu.answer())
        elif pdu.command == Command.UNBIND:
            self._send(pdu.answer())
            raise ConnectionError("the server unbound it")
        else:
            self._send(Pdu(Command.GENERIC_NACK, pdu.sequence, Status.ESME_RINVCMDID))


def _connect(account: Account, seconds: float) -> socket.socket:
    """Connect to one of the addresses. :raises OSError: the error of the last one."""
    error = OSError("no address")
    for place, share in addresses(account.host, account.port, seconds):
        connection = socket.socket(place[0], place[1], place[2])
        try:
            connection.settimeout(share)
            connection.connect(place[4])
            if account.tls is not None:
                connection = account.tls.wrap_socket(connection, server_hostname=account.host)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(SILENCE)
        except OSError as caught:
            connection.close()
            error = caught
        else:
            return connection
    raise error
