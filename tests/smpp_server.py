"""A server of SMPP in a thread, by the library smpp34: another implementation than ours."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import smpp34
from services import wait_until

T = TypeVar("T")


@dataclass(frozen=True)
class Submitted:
    """A submit_sm, and the session that it came by."""

    session: str
    source: tuple[int, int, str]
    destination: tuple[int, int, str]
    text: bytes
    coding: int
    esm_class: int
    wants_receipt: bool


class SmppServer:
    """
    :ivar status: a function of the number of the submit_sm from 1 that tells how it is answered; 0 takes it.
    :ivar sms: what came, whether taken or not. The one of number N gets the id ``idN``.
    """

    def __init__(self, status: Callable[[int], int] = lambda number: 0) -> None:
        self.status = status
        self.sms: list[Submitted] = []
        #: Of each session that was bound.
        self.bound: list[Any] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> SmppServer:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def wait_for(self, number: int, timeout: float = 30) -> list[Submitted]:
        wait_until(lambda: len(self.sms) >= number, timeout, what=f"{number} submit_sm")
        return list(self.sms)

    def deliver(self, text: str, *, esm_class: int = 4, session: int = -1, **options: bytes) -> int:
        """Send a deliver_sm, such as a receipt, and give the status of its answer."""
        tlvs = [smpp34.Tlv(getattr(smpp34, f"TLV_{name.upper()}"), value) for name, value in options.items()]
        esme = self.bound[session]

        async def send() -> int:
            answer = await esme.deliver_sm("ACME", text.encode(), source_addr="49", esm_class=esm_class, tlvs=tlvs)
            return int(answer.command_status)

        return self._do(send())

    def unbind(self) -> None:
        """End the newest session."""
        esme = self.bound[-1]

        async def end() -> None:
            await esme.unbind()

        self._do(end())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        for last in (False, False, True):  # somebody else may take a port that was free a moment ago
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = int(free.getsockname()[1])
            self._server = smpp34.Server("127.0.0.1", self.port, system_id="test")
            try:
                await self._server.start()
                break
            except smpp34.SmppError:
                if last:
                    raise
        self._events = asyncio.create_task(self._take())

    async def _stop(self) -> None:
        self._events.cancel()
        await self._server.stop()

    async def _take(self) -> None:
        while True:
            event = await self._server.next()
            if isinstance(event, smpp34.Esme):
                self.bound.append(event)
            elif isinstance(event, smpp34.SubmitSmEvent):
                self.sms.append(_submitted(event))
                status = self.status(len(self.sms))
                if status:
                    event.reject(status)
                else:
                    event.accept(f"id{len(self.sms)}")


def _submitted(event: Any) -> Submitted:
    return Submitted(
        event.session_id, (event.source_addr_ton, event.source_addr_npi, event.source_addr),
        (event.dest_addr_ton, event.dest_addr_npi, event.destination_addr), bytes(event.short_message),
        event.data_coding, event.esm_class, bool(event.registered_delivery & 1),
    )  # fmt: skip
