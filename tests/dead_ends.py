"""Ports of servers that are of no use, each in its way."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from services import free_port

from pijobs_mail.sink.server import Fault, Sink


@contextmanager
def refusing() -> Iterator[int]:
    """A port that nobody listens on."""
    yield free_port()


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose queue of connections is full, so that packets to it vanish, as behind a firewall that drops them."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@contextmanager
def silent() -> Iterator[int]:
    """An SMTP server that takes the connection and never says a word."""
    with Sink(faults={"GREETING": Fault(hang=True)}) as sink:
        yield sink.port
