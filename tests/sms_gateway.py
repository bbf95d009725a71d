"""An HTTP gateway for SMS in a thread, that answers, fails, hangs and lies as it is told."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from services import wait_until


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    query: dict[str, str]
    body: str
    #: Of the connection that it came by.
    port: int

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body))


@dataclass(frozen=True)
class Answer:
    """
    :ivar hang: no answer until the gateway is closed.
    :ivar drip: seconds between the bytes of the body, or of what is raw.
    :ivar raw: sent instead of an answer; then the connection is closed.
    """

    status: int = 200
    body: str = "OK id=4711"
    retry_after: str | None = None
    location: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False
    drip: float = 0
    raw: bytes = b""


class Gateway:
    """Answers by :attr:`answer`, a function of the number of the request from 1, and keeps the requests."""

    def __init__(
        self,
        answer: Callable[[int], Answer] = lambda number: Answer(),
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                gateway._handle(self)

            def do_POST(self) -> None:
                gateway._handle(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

        self._server = Server(("127.0.0.1", port), Handler)
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/send"

    def __enter__(self) -> Gateway:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.socket.close()  # server_close() would wait for connections that are kept

    def wait_for(self, number: int, timeout: float = 30) -> list[Request]:
        wait_until(lambda: len(self.requests) >= number, timeout, what=f"{number} requests")
        return list(self.requests)

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0)).decode()
        parts = urlsplit(handler.path)
        request = Request(
            handler.command, parts.path, dict(handler.headers), dict(parse_qsl(parts.query)), body,
            handler.client_address[1],
        )  # fmt: skip
        with self._lock:
            self.requests.append(request)
            answer = self.answer(len(self.requests))
        if answer.hang:
            self.closing.wait(120)
            handler.close_connection = True
            return
        try:
            if answer.raw:
                handler.close_connection = True
                self._send(handler, answer.raw, answer.drip)
            else:
                self._write(handler, answer)
        except OSError:
            handler.close_connection = True

    def _write(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        content = answer.body.encode()
        handler.send_response(answer.status)
        if answer.retry_after is not None:
            handler.send_header("Retry-After", answer.retry_after)
        if answer.location is not None:
            handler.send_header("Location", answer.location)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        self._send(handler, content, answer.drip)

    def _send(self, handler: BaseHTTPRequestHandler, content: bytes, drip: float) -> None:
        if not drip:
            handler.wfile.write(content)
            return
        for byte in content:
            handler.wfile.write(bytes([byte]))
            if self.closing.wait(drip):
                break


def always(answer: Answer) -> Callable[[int], Answer]:
    """The same answer to each request."""
    return lambda number: answer


def first(*answers: Answer) -> Callable[[int], Answer]:
    """These answers, then good ones."""
    return lambda number: answers[number - 1] if number <= len(answers) else Answer()
