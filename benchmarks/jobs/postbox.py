"""An SMTP server that costs little: what is measured is the client. STARTTLS, AUTH, PIPELINING and CHUNKING.

Each connection has a thread. A round trip is slept through before each flight of replies, and before the greeting once
more, for the connection itself.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
from contextlib import suppress
from multiprocessing import Value

OFFERS = ("STARTTLS", "AUTH PLAIN LOGIN", "PIPELINING", "CHUNKING", "8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 20000000")
_REPLIES = {
    b"MAIL": b"250 2.1.0 Ok\r\n",
    b"RCPT": b"250 2.1.5 Ok\r\n",
    b"RSET": b"250 2.0.0 Ok\r\n",
    b"NOOP": b"250 2.0.0 Ok\r\n",
    b"AUTH": b"235 2.7.0 Authenticated\r\n",
    b"STAR": b"220 2.0.0 Go ahead\r\n",
    b"DATA": b"354 Go ahead\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}


class Postbox:
    """Listens on a port of this machine.

    :param pem: certificate and key.
    :param without: features that are not offered.
    :param trip: seconds of a round trip.
    :param name: what it says it is: a Postfix is given 100 mails over one connection, another server 10.
    """

    def __init__(self, pem: str, without: tuple[str, ...] = (), trip: float = 0.0, name: str = "Postfix") -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        lines = [f"250-{offer}\r\n" for offer in OFFERS if offer not in without]
        self._hello = f"250-postbox.example\r\n{''.join(lines)}250 HELP\r\n".encode()
        self._greeting = f"220 postbox.example ESMTP {name}\r\n".encode()
        self.trip = trip
        #: Mails that were accepted, and connections; other processes can look.
        self.accepted, self.connections = Value("q", 0), Value("q", 0)
        self._numbers = itertools.count(1)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        """Take connections, for as long as the process lives."""
        while True:
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.connections.get_lock():
                self.connections.value += 1
            threading.Thread(target=self._converse, args=(sock,), daemon=True).start()

    def _converse(self, sock: socket.socket) -> None:
        with suppress(OSError):
            time.sleep(2 * self.trip)
            sock.sendall(self._greeting)
            waiting = b""
            while True:
                received = sock.recv(65536)
                if not received:
                    return
                replies, waiting, encrypt = self._answers(waiting + received)
                if not replies:
                    continue
                time.sleep(self.trip)
                sock.sendall(replies)
                if encrypt:
                    sock, waiting = self._context.wrap_socket(sock, server_side=True), b""
                if replies.startswith(b"221"):
                    return
        sock.close()

    def _answers(self, given: bytes) -> tuple[bytes, bytes, bool]:
        """Replies to all commands that are whole, what is left, and whether TLS follows."""
        replies, encrypt = [], False
        while given:
            if self._reads_content(given):
                end = given.find(b"\r\n.\r\n")
                if end < 0:
                    break
                given = given[end + 5 :]
                replies.append(self._accept())
                continue
            end = given.find(b"\r\n")
            if end < 0:
                break
            verb = given[:4].upper()
            if verb == b"BDAT":
                size = int(given[5:end].split()[0])
                if len(given) < end + 2 + size:
                    break
                given = given[end + 2 + size :]
                replies.append(self._accept())
                continue
            replies.append(self._hello if verb == b"EHLO" else _REPLIES[verb])
            encrypt = verb == b"STAR"
            # What follows is the content: it stays in front of what is given until all of it is here.
            given = (b"\0" if verb == b"DATA" else b"") + given[end + 2 :]
        return b"".join(replies), given, encrypt

    @staticmethod
    def _reads_content(given: bytes) -> bool:
        return given.startswith(b"\0")

    def _accept(self) -> bytes:
        with self.accepted.get_lock():
            self.accepted.value += 1
        return b"250 2.0.0 Ok: queued as 4F%08X\r\n" % next(self._numbers)
