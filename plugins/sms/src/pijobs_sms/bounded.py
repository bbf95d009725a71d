"""Connections with one time limit for all their waits.

httpcore's time-outs limit each read, so a gateway that sends a byte now and then could hold our request for as long as
it likes.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore

from pijobs.base import clock
from pijobs.base.network import addresses

_until: ContextVar[float] = ContextVar("pijobs_sms_until")
_opened: ContextVar[list[httpcore.NetworkStream]] = ContextVar("pijobs_sms_opened")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Limit the sum of all network waits in this block."""
    token, opened = _until.set(clock.monotonic() + seconds), _opened.set([])
    try:
        yield
    except httpcore.ProxyError:
        # httpcore does not close its connection if a SOCKS proxy refuses.
        for stream in _opened.get():
            stream.close()
        raise
    finally:
        _until.reset(token)
        _opened.reset(opened)


def _left(over: type[httpcore.TimeoutException]) -> float:
    """The seconds that are left. :raises httpcore.TimeoutException: of the given kind, if none are left."""
    seconds = _until.get() - clock.monotonic()
    if seconds <= 0:
        raise over("the time is over")
    return seconds


class BoundedBackend(httpcore.NetworkBackend):
    """httpcore's backend, with the block's time limit instead of its own. Each address gets a share of the time."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        error: httpcore.ConnectError | httpcore.ConnectTimeout
        try:
            for place, share in addresses(host, port, _left(httpcore.ConnectTimeout)):
                try:
                    stream = httpcore.SyncBackend().connect_tcp(place[4][0], port, share, local_address, socket_options)
                    _opened.get().append(stream)
                    return _Stream(stream)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as caught:
                    error = caught
        except TimeoutError as late:
            raise httpcore.ConnectTimeout(str(late)) from None
        except OSError as unknown:
            raise httpcore.ConnectError(unknown.strerror or str(unknown)) from None
        raise error


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(httpcore.ConnectTimeout)))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
