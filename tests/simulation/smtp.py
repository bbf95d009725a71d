"""An SMTP server under virtual time, in the place of the mail engine's wire; it fails as real ones do, by the seed."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from pijobs.testing.simulation.present import here
from pijobs.testing.simulation.world import Process
from pijobs_mail import attempt
from pijobs_mail.engine import connection
from pijobs_mail.engine.pool import Pool
from pijobs_mail.engine.replies import Replies, Reply

#: How often a reply is another one than it should be, or does not come.
FAULTY = 0.06
#: What may be said before a connection is encrypted.
IN_CLEAR = (b"EHLO", b"HELO", b"STARTTLS", b"QUIT")


@dataclass(frozen=True)
class Arrived:
    """A mail that the server has."""

    #: The text that tells which one it is.
    content: bytes
    at: float
    #: Whether its sender heard of it.
    told: bool


class Server:
    """What arrived, and the connections of the history that runs.

    :param password: it asks for STARTTLS, and for a login with this password, before it takes a mail; now and then
        somebody in between takes away that it offers TLS.
    """

    def __init__(self, password: str | None = None) -> None:
        self.password = password
        self.mails: list[Arrived] = []
        #: What came over a connection that was not encrypted, though it had to be.
        self.in_clear: list[bytes] = []
        self.logins = 0
        self.pools: dict[Process, Pool] = {}

    def pool(self) -> Pool:
        """That of the present process."""
        current = here().current
        assert current is not None
        return self.pools.setdefault(current.process, Pool())

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Let the engine reach this server, whatever it is told to connect to."""
        place = (0, 0, 0, "", ("127.0.0.1", 25))
        self.mails.clear()
        self.in_clear.clear()
        self.pools.clear()
        wires = SimpleNamespace(connect=lambda address, seconds: Wire(self, seconds))
        with (
            patch.object(connection, "Wire", wires),
            patch.object(connection, "look_up", lambda *_: [place]),
            patch.object(attempt, "process_pool", self.pool),
        ):
            yield


class Wire:
    """One connection: it has :class:`pijobs_mail.engine.wire.Wire`'s methods, and keeps its promises."""

    own_literal = "[127.0.0.1]"

    def __init__(self, server: Server, seconds: float) -> None:
        self._server, self._replies, self._coming, self._in_data = server, Replies(), b"", False
        self._open, self.encrypted = True, False
        # On this host a login may go in clear.
        self.loopback, self._is_known = server.password is None, server.password is None
        if here().random.random() < FAULTY:
            here().pause(seconds)
            raise TimeoutError
        here().pause(here().random.random() * 0.01)
        self._answer(b"220 sink.example ESMTP")

    def is_of(self, sock: Any) -> bool:
        return False

    def start_tls(self, context: ssl.SSLContext, host: str, seconds: float) -> None:
        assert self._server.password is not None, "it does not offer TLS"
        fault = here().random.random() / FAULTY
        here().pause(seconds if fault < 0.5 else here().random.random() * 0.02)
        if fault < 0.5:
            raise TimeoutError
        if fault < 1:
            self._open = False
            raise ssl.SSLError(1, "handshake failure")
        self.encrypted = True

    def send(self, content: bytes, seconds: float) -> None:
        here().pause(here().random.random() * 0.01)
        if not self._open:
            raise BrokenPipeError
        self._coming += content
        while self._take():
            pass

    def _take(self) -> bool:
        """The next command, or the mail."""
        end = b"\r\n.\r\n" if self._in_data else b"\r\n"
        command, found, rest = self._coming.partition(end)
        if not found:
            return False
        self._coming = rest
        if not (self.encrypted or self._server.password is None) and command.split()[0] not in IN_CLEAR:
            self._server.in_clear.append(command)
        if self._in_data:
            self._in_data = False
            self._keep(command)
        elif command.startswith(b"EHLO"):
            self._answer(b"250-sink.example\r\n" + self._offer() + b"250 PIPELINING")
        elif command.startswith(b"STARTTLS"):
            self._answer(b"220 2.0.0 Ready to start TLS")
        elif command.startswith(b"AUTH"):
            self._log_in(command)
        elif not self._is_known and command.startswith((b"MAIL", b"RCPT", b"DATA")):
            self._replies.feed(b"530 5.7.0 Authentication required\r\n")
        elif command.startswith(b"DATA"):
            self._in_data = self._answer(b"354 go on")
        else:
            self._answer(b"221 bye" if command.startswith(b"QUIT") else b"250 2.0.0 Ok")
        return True

    def _offer(self) -> bytes:
        if self._server.password is None or (not self.encrypted and here().random.random() < FAULTY):
            return b""
        return b"250-AUTH PLAIN LOGIN\r\n" if self.encrypted else b"250-STARTTLS\r\n"

    def _log_in(self, command: bytes) -> None:
        """By PLAIN, with what it tells at once."""
        told = base64.b64decode(command.split()[2]).split(b"\0")[2]
        if told != (self._server.password or "").encode():
            self._replies.feed(b"535 5.7.8 Authentication credentials invalid\r\n")
        elif here().random.random() < FAULTY:
            self._replies.feed(b"454 4.7.0 Temporary authentication failure\r\n")
        else:
            self._is_known = self._answer(b"235 2.7.0 Authentication successful")
            self._server.logins += self._is_known

    def _keep(self, content: bytes) -> None:
        if here().random.random() < FAULTY:
            self._replies.feed(b"451 4.3.0 not now\r\n")
            return
        told = self._answer(b"250 2.0.0 Ok: queued as S1", only_lost=True)
        self._server.mails.append(Arrived(content, here().now, told))

    def _answer(self, reply: bytes, *, only_lost: bool = False) -> bool:
        """Whether it is this one that comes."""
        fault = here().random.random() / FAULTY
        if fault < 0.5:
            self._open = False  # and nothing comes any more
            return False
        if fault < 1 and not only_lost:
            self._replies.feed(b"421 4.3.2 closing\r\n")
            self._open = False
            return False
        self._replies.feed(reply + b"\r\n")
        return True

    def reply(self, seconds: float) -> Reply:
        here().pause(here().random.random() * 0.02)
        if (reply := self._replies.take()) is not None:
            return reply
        # For the word on a mail the engine waits ten minutes, in which a server's machine tells that it is gone.
        if seconds < 60 and here().random.random() < 0.5:
            here().pause(seconds)
            raise TimeoutError
        here().pause(1.0)
        raise ConnectionResetError("the server closed the connection")

    def unsolicited(self) -> Reply | None:
        return self._replies.take()

    def quiet(self) -> bool:
        return self._open and not self._replies

    def close(self) -> None:
        self._open = False
