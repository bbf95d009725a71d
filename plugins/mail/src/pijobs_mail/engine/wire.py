"""Bytes to and from an SMTP server: a socket, TLS around it, replies out of it. Every wait is bounded as a whole."""

from __future__ import annotations

import ipaddress
import select
import socket
import ssl

from pijobs.base import clock
from pijobs.base.network import Address, positive
from pijobs_mail.engine.replies import ProtocolError, Replies, Reply

_CHUNK = 64 * 1024
#: Seconds of silence until the other machine is asked whether it is there, seconds between two questions, and how many;
#: milliseconds in which it must confirm what was sent.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}


class Wire:
    """One connection.

    Methods raise :class:`TimeoutError` when the seconds are over, other :class:`OSError` when the connection is
    broken, and :class:`~pijobs_mail.engine.replies.ProtocolError` when what comes in is not SMTP. After any of them the
    connection is of no more use.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._incoming = select.poll()
        self._incoming.register(sock, select.POLLIN)
        self._replies = Replies()
        self.encrypted = False

    @classmethod
    def connect(cls, address: Address, seconds: float) -> Wire:
        """:param address: one of those of :func:`pijobs.base.network.look_up`."""
        family, kind, protocol, _, place = address
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(positive(seconds))
            sock.connect(place)
            # A server may take minutes over a mail; one whose machine is gone is found out by this.
            _keep_alive(sock)
            # Commands are small and each waits for its reply: Nagle's algorithm could only delay them.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def is_of(self, sock: socket.socket) -> bool:
        """Whether it reads from this socket."""
        return self._socket is sock

    @property
    def loopback(self) -> bool:
        """Whether the other end is this machine; judged by address, since a name may resolve to anything."""
        return ipaddress.ip_address(self._socket.getpeername()[0].partition("%")[0]).is_loopback

    @property
    def own_literal(self) -> str:
        """Our own end as an address literal (RFC 5321 4.1.3)."""
        address = ipaddress.ip_address(self._socket.getsockname()[0].partition("%")[0])
        return f"[{'IPv6:' if address.version == 6 else ''}{address}]"

    def start_tls(self, context: ssl.SSLContext, host: str, seconds: float) -> None:
        """Encrypt from here on.

        :raises ProtocolError: when the server sent more in clear than it was asked for; what came before the
            handshake could have been put there by anybody (CVE-2011-0411).
        :raises ssl.SSLError: when the handshake or the verification failed.
        """
        if self._replies:
            raise ProtocolError("expected the TLS handshake, found bytes in clear; taken for an attack")
        self._socket.settimeout(positive(seconds))
        self._socket = context.wrap_socket(self._socket, server_hostname=host)
        self.encrypted = True

    def send(self, content: bytes, seconds: float) -> None:
        self._socket.settimeout(positive(seconds))
        self._socket.sendall(content)

    def reply(self, seconds: float) -> Reply:
        """The next reply, whole within the seconds."""
        until = clock.monotonic() + seconds
        while (reply := self._replies.take()) is None:
            self._socket.settimeout(positive(until - clock.monotonic()))
            received = self._socket.recv(_CHUNK)
            if not received:
                raise ConnectionResetError("the server closed the connection")
            self._replies.feed(received)
        return reply

    def unasked(self) -> Reply | None:
        """A reply that is here already, before anything was asked for."""
        return self._replies.take()

    def quiet(self) -> bool:
        """Whether the connection is open, and nothing came in that was not asked for. Does not wait."""
        # Usually the system has nothing, which costs less to hear than to read in vain.
        if not self._incoming.poll(0) and not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
            return not self._replies
        try:
            self._socket.settimeout(0)
            self._replies.feed(self._socket.recv(_CHUNK))
        except (BlockingIOError, ssl.SSLWantReadError):
            return not self._replies
        except OSError:
            return False
        return False

    def close(self) -> None:
        self._socket.close()


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if option := getattr(socket, name, None):  # not on every system
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
