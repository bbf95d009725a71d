"""A TCP proxy in front of a database's UNIX socket, which can fall silent or swallow an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Hands on what both sides say, until told otherwise."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        #: When a client says this, the server hears it, and the client hears nothing but the end of the connection.
        self.swallow_answer_to: bytes | None = None
        #: When a client says this, the server hears it, and this client hears nothing any more; the connection stays.
        self.fall_silent_at: bytes | None = None
        self._silent: set[socket.socket] = set()
        self.port: int = self._server.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def freeze(self) -> None:
        """Take everything and hand on nothing, as a network does that lost its way."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        """End all connections."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.thaw()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        for thread in self._threads:
            thread.join(120)
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.socket(socket.AF_UNIX)
                self._open += [client, server]
                server.connect(self._target)
                for run, source, sink in ((self._ask, client, server), (self._answer, server, client)):
                    thread = threading.Thread(target=run, args=(source, sink), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while said := client.recv(65536):
                self._flows.wait()
                if self.swallow_answer_to and self.swallow_answer_to in said:
                    self.swallow_answer_to = None
                    self._flows.clear()
                    server.sendall(said)
                    server.recv(1, socket.MSG_PEEK)
                    client.shutdown(socket.SHUT_RDWR)
                    self._flows.set()
                    return
                if self.fall_silent_at and self.fall_silent_at in said:
                    self.fall_silent_at = None
                    self._silent.add(client)
                server.sendall(said)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while True:
                # Looks before it takes, so that a swallowed answer stays where it is.
                said = server.recv(65536, socket.MSG_PEEK)
                self._flows.wait()
                if not said:
                    break
                said = server.recv(len(said))
                if client not in self._silent:
                    client.sendall(said)
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    one = Proxy(target)
    try:
        yield one
    finally:
        one.close()
