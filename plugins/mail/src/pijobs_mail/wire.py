"""Bytes to and from an SMTP server: a socket, TLS around it, replies out of it. Every wait is bounded as a whole."""

from __future__ import annotations

import functools
import ipaddress
import os
import queue
import socket
import ssl
import threading
import time
from typing import Any

from pijobs_mail.replies import ProtocolError, Reply, take_reply

_CHUNK = 64 * 1024
#: Family, kind, protocol, canonical name and place.
Address = tuple[int, int, int, str, Any]


class Wire:
    """One connection.

    Methods raise :class:`TimeoutError` when the seconds are over, other :class:`OSError` when the connection is
    broken, and :class:`~pijobs_mail.replies.ProtocolError` when what comes in is not SMTP. After any of them the
    connection is of no more use.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self.encrypted = False

    @classmethod
    def connect(cls, address: Address, seconds: float) -> Wire:
        """:param address: one of those of :func:`look_up`."""
        family, kind, protocol, _, place = address
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_positive(seconds))
            sock.connect(place)
            # Commands are small and each waits for its reply: Nagle's algorithm could only delay them.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

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
        if self._buffer:
            raise ProtocolError("expected the TLS handshake, found bytes in clear; taken for an attack")
        self._socket.settimeout(_positive(seconds))
        self._socket = context.wrap_socket(self._socket, server_hostname=host)
        self.encrypted = True

    def send(self, content: bytes, seconds: float) -> None:
        self._socket.settimeout(_positive(seconds))
        self._socket.sendall(content)

    def reply(self, seconds: float) -> Reply:
        """The next reply, whole within the seconds."""
        until = time.monotonic() + seconds
        while (reply := take_reply(self._buffer)) is None:
            self._socket.settimeout(_positive(until - time.monotonic()))
            received = self._socket.recv(_CHUNK)
            if not received:
                raise ConnectionResetError("the server closed the connection")
            self._buffer += received
        return reply

    def unasked(self) -> Reply | None:
        """A reply that is here already, before anything was asked for."""
        return take_reply(self._buffer)

    def quiet(self) -> bool:
        """Whether the connection is open, and nothing came in that was not asked for. Does not wait."""
        try:
            self._socket.settimeout(0)
            self._buffer += self._socket.recv(_CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return not self._buffer
        except OSError:
            return False
        return False

    def close(self) -> None:
        self._socket.close()


def look_up(host: str, port: int, seconds: float) -> list[Address]:
    """What :func:`socket.getaddrinfo` gives for a host, within the seconds; at least one.

    The system's resolver knows no bound but its own, which can be minutes; so it is asked by a thread that is left
    alone when it takes too long.
    """
    _positive(seconds)
    answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answers.put(error)
        except UnicodeError as error:  # a label that is too long for IDNA
            answers.put(socket.gaierror(socket.EAI_NONAME, str(error)))

    threading.Thread(target=ask, name="smtp-look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("the name look-up timed out") from None
    if isinstance(answer, OSError):
        raise answer
    if not answer:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    return answer


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


def tls_context(ca_file: str | None, *, verify: bool = True, any_name: bool = False) -> ssl.SSLContext:
    """A client context that verifies certificate and host name, by the system's authorities and those of ``ca_file``.

    Kept, since reading all authorities takes longer than a mail; read again when the file changes.

    :param verify: off: any certificate will do.
    :param any_name: a certificate for another host will do, to look at it.
    :raises OSError: for a file that can't be read, or is no PEM.
    """
    return _context(ca_file, os.stat(ca_file).st_mtime_ns if ca_file else 0, verify, any_name)


@functools.lru_cache(maxsize=32)
def _context(ca_file: str | None, _changed: int, verify: bool, any_name: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = not any_name
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    if ca_file:
        context.load_verify_locations(ca_file)
    return context
