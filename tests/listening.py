"""A server for one test, which says what a real one says seldom or never."""

from __future__ import annotations

import socket
import struct
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from io import BufferedRWPair
from typing import TypeVar

One = TypeVar("One", bound="Listening")


class Listening(ABC):
    """Listens on ``port`` of 127.0.0.1 while entered, with a thread for each connection."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self: One) -> One:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError, struct.error), connection, connection.makefile("rwb") as stream:
            self.talk(stream)

    @abstractmethod
    def talk(self, stream: BufferedRWPair) -> None:
        """Say what this server says, until the client goes."""
