"""A socket to an SMTP server, with TLS and a parser for replies. Each wait has a limit for its total time."""

from __future__ import annotations

import ipaddress
import select
import socket
import ssl

from pijobs.base import clock
from pijobs.base.network import Address, positive
from pijobs_mail.engine.replies import ProtocolError, Replies, Reply

_CHUNK = 64 * 1024
#: Options of TCP (tcp(7) of Linux): seconds of silence before the first probe, seconds between two probes, the number
#: of probes; milliseconds within which the other machine must acknowledge sent data.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}


class Wire:
    """One connection.

    The methods raise :class:`TimeoutError` if the time is over, another :class:`OSError` if the connection is broken,
    and :class:`~pijobs_mail.engine.replies.ProtocolError` if the input is not SMTP. After any of them, the connection
    can't be used any more.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._incoming = select.poll()
        self._incoming.register(sock, select.POLLIN)
        self._replies = Replies()
        self.encrypted = False

    @classmethod
    def connect(cls, address: Address, seconds: float) -> Wire:
        """Connect by TCP.

        :param address: one that :func:`pijobs.base.network.look_up` returned.
        :param seconds: the time limit.
        """
        family, kind, protocol, _, place = address
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(positive(seconds))
            sock.connect(place)
            # A server may need minutes for its final reply. These options detect in the meantime that it is dead.
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
        """Whether the other end is this machine. Decided by its address, because a name may resolve to any address."""
        return ipaddress.ip_address(self._socket.getpeername()[0].partition("%")[0]).is_loopback

    @property
    def own_literal(self) -> str:
        """Our own end as an address literal (RFC 5321 4.1.3)."""
        address = ipaddress.ip_address(self._socket.getsockname()[0].partition("%")[0])
        return f"[{'IPv6:' if address.version == 6 else ''}{address}]"

    def start_tls(self, context: ssl.SSLContext, host: str, seconds: float) -> None:
        """Start TLS.

        :raises ProtocolError: there is unencrypted input after the reply to STARTTLS. An attacker on the network may
            have inserted it, to have it processed as if it came through TLS (CVE-2011-0411).
        :raises ssl.SSLError: the handshake or the verification failed.
        """
        if self._replies:
            raise ProtocolError("expected the TLS handshake, found unencrypted input, which may be an attack")
        self._socket.settimeout(positive(seconds))
        self._socket = context.wrap_socket(self._socket, server_hostname=host)
        self.encrypted = True

    def send(self, content: bytes, seconds: float) -> None:
        self._socket.settimeout(positive(seconds))
        self._socket.sendall(content)

    def reply(self, seconds: float) -> Reply:
        """The next reply, which must be complete within the seconds."""
        until = clock.monotonic() + seconds
        while (reply := self._replies.take()) is None:
            self._socket.settimeout(positive(until - clock.monotonic()))
            received = self._socket.recv(_CHUNK)
            if not received:
                raise ConnectionResetError("the server closed the connection")
            self._replies.feed(received)
        return reply

    def unsolicited(self) -> Reply | None:
        """A reply that has been read although no command waits for one; None: there is none."""
        return self._replies.take()

    def quiet(self) -> bool:
        """Whether the connection is open and has no unexpected input. Does not wait."""
        # Usually there is no input, and polling costs less than a read that fails.
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
