"""An SMTP server for the demo and tests. It keeps the received mails, and is as slow and faulty as requested.

Runs aiosmtpd in a thread of its own::
    with Sink(delay=0.3, faults={"RCPT": Fault("451 4.7.1 try later", times=1)}) as sink:
        …  # talk to sink.host, sink.port
        sink.wait_for(1, timeout=5)
"""

from __future__ import annotations

import asyncio
import socket
import threading
from types import TracebackType
from typing import Any

from pijobs_mail.sink.behaviour import STEPS, Behaviour, Fault, Received
from pijobs_mail.sink.protocol import Protocol

__all__ = ["STEPS", "Fault", "Received", "Sink"]


class Sink(Behaviour):
    """A server on a port of this machine, with the options of :class:`Behaviour`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp-sink", daemon=True)
        self._server: asyncio.Server | None = None

    def start(self) -> Sink:
        """Listen. :raises OSError: if the port is in use."""
        self._thread.start()
        try:
            self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        except BaseException:
            self.stop()
            raise
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Stop listening and drop all connections."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Sink:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(
            lambda: Protocol(self, self._loop),
            self.host,
            self.port,
            family=socket.AF_INET6 if ":" in self.host else socket.AF_INET,
            ssl=self.tls if self.implicit_tls else None,
        )

    async def _shut(self) -> None:
        # When its server closes, asyncio loses an accepted connection that has no transport yet.
        await self._turns()
        if self._server is not None:
            self._server.close()
        for transport in list(self._transports):
            # TLS would wait for the client's goodbye.
            transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._turns()

    @staticmethod
    async def _turns() -> None:
        """Let the loop finish what it has begun."""
        for _ in range(10):
            await asyncio.sleep(0)
