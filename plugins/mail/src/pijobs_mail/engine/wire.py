"""Bytes to and from an SMTP server: a socket, TLS, and replies. Every wait has a total limit."""

from __future__ import annotations

import ipaddress
import select
import socket
import ssl

from pijobs.base import clock
from pijobs.base.network import Address, positive
from pijobs_mail.engine.replies import ProtocolError, Replies, Reply

_CHUNK = 64 * 1024
#: Seconds of silence until TCP sends a probe, seconds between two probes, and how many; milliseconds within which the
#: other machine must confirm sent data.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}


class Wire:
    """One connection.

    Methods raise :class:`TimeoutError` when the time is over, other :class:`OSError` if the connection is broken, and
    :class:`~pijobs_mail.engine.replies.ProtocolError` if the input is not SMTP. After any of them, the connection can't
    be used any more.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._incoming = select.poll()
        self._incoming.register(sock, select.POLLIN)
        self._replies = Replies()
        self.encrypted = False

    @classmethod
    def connect(cls, address: Address, seconds: float) -> Wire:
        """:param address: an address from :func:`pijobs.base.network.look_up`."""
        family, kind, protocol, _, place = address
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(positive(seconds))
            sock.connect(place)
            # A server may need minutes for a mail. These options detect a dead machine.
            _keep_alive(sock)
            # Commands are small and wait for replies, so Nagle's algorithm would only delay them.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def is_of(self, sock: socket.socket) -> bool:
        """Whether this wire uses the socket."""
        return self._socket is sock

    @property
    def loopback(self) -> bool:
        """Whether the other end is this machine; by its address, because a name may resolve to anything."""
        return ipaddress.ip_address(self._socket.getpeername()[0].partition("%")[0]).is_loopback

    @property
    def own_literal(self) -> str:
        """Our own end as an address literal (RFC 5321 4.1.3)."""
        address = ipaddress.ip_address(self._socket.getsockname()[0].partition("%")[0])
        return f"[{'IPv6:' if address.version == 6 else ''}{address}]"

    def start_tls(self, context: ssl.SSLContext, host: str, seconds: float) -> None:
        """Encrypt from here on.

        :raises ProtocolError: the server sent more unencrypted data than it should. Anybody could have inserted data
            before the handshake (CVE-2011-0411).
        :raises ssl.SSLError: the handshake or the verification failed.
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
        """The next reply, complete within the seconds."""
        until = clock.monotonic() + seconds
        while (reply := self._replies.take()) is None:
            self._socket.settimeout(positive(until - clock.monotonic()))
            received = self._socket.recv(_CHUNK)
            if not received:
                raise ConnectionResetError("the server closed the connection")
            self._replies.feed(received)
        return reply

    def unasked(self) -> Reply | None:
        """A reply that arrived before any command was sent."""
        return self._replies.take()

    def quiet(self) -> bool:
        """Whether the connection is open and has no unexpected input. Does not wait."""
        # Usually there is no input, and checking costs less than an empty read.
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
