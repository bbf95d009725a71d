"""A network that fails: a TCP proxy that delays, drops, cuts and half-closes at random points."""

from __future__ import annotations

import collections
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Fault = Literal["delay", "drop", "cut", "reset", "half-close"]
FAULTS: tuple[Fault, ...] = ("delay", "drop", "cut", "reset", "half-close")


class Network:
    """Hands on what both sides say, and does something else with a few of all packets.

    * ``delay``: this packet comes up to 0.4 s later.
    * ``drop``: from here on the connection stays open, and this direction is lost.
    * ``cut``: the first part of the packet arrives, then both sides hear the end.
    * ``reset``: the same, with both sides hearing a reset.
    * ``half-close``: the packet arrives, and then the end of this direction only.

    :param target: a TCP port of this host, or the path of a UNIX socket.
    """

    def __init__(self, target: int | str, chance: random.Random) -> None:
        self._target = target
        self._chance = chance
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._over = threading.Event()
        self._lock = threading.Lock()
        #: How many of all packets meet a fault.
        self.rate = 0.0
        self.faults: collections.Counter[Fault] = collections.Counter()
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, name="network", daemon=True).start()

    def calm_down(self) -> None:
        """No more faults; what hangs in a lost direction is cut."""
        self.rate = 0.0
        self._cut()

    def close(self) -> None:
        self._over.set()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._cut()

    def _cut(self) -> None:
        with self._lock:
            connections = list(self._open)
        for one in connections:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), name="network", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = self._connect()
        except OSError:
            client.close()
            return
        with self._lock:
            self._open |= {client, server}
        back = threading.Thread(target=self._carry, args=(server, client), name="network", daemon=True)
        back.start()
        self._carry(client, server)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _connect(self) -> socket.socket:
        if isinstance(self._target, int):
            return socket.create_connection(("127.0.0.1", self._target))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._target)
        except OSError:
            server.close()
            raise
        return server

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        lost = False
        with suppress(OSError):
            while packet := source.recv(65536):
                fault = self._fault()
                if fault == "delay":
                    self._over.wait(self._chance.uniform(0.0, 0.4))
                elif fault in ("cut", "reset"):
                    sink.sendall(packet[: self._chance.randrange(len(packet))])
                    self._end(source, sink, abruptly=fault == "reset")
                    return
                lost = lost or fault == "drop"
                if not lost:
                    sink.sendall(packet)
                if fault == "half-close":
                    break
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _fault(self) -> Fault | None:
        with self._lock:
            if self._chance.random() >= self.rate:
                return None
            fault = self._chance.choice(FAULTS)
            self.faults[fault] += 1
            return fault

    def _end(self, *connections: socket.socket, abruptly: bool) -> None:
        for one in connections:
            with suppress(OSError):
                if abruptly and one.family == socket.AF_INET:
                    # Then the close sends a reset instead of an end.
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def network(target: int | str, chance: random.Random) -> Iterator[Network]:
    one = Network(target, chance)
    try:
        yield one
    finally:
        one.close()
