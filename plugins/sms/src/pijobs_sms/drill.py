"""``pijobs drill sms``: sends SMS like one-time passwords to an HTTP gateway of the drill."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pijobs import Handle
from pijobs.base import clock, threads
from pijobs.observe.drill import Destination, Exercise
from pijobs.request.queue import Queue
from pijobs_sms.gateways import open_store
from pijobs_sms.send import send_sms

#: A number that Ofcom reserves for films: nobody has it.
_PHONE = "+447700900123"


class _Gateway(Destination):
    """A gateway that accepts each SMS, and remembers its id."""

    def __init__(self, host: str) -> None:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                gateway._take(self.headers.get("X-Id", ""))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

        self._arrived: dict[str, float] = {}
        self._more = threads.Condition()
        self.server = Server((host, 0), Handler)
        address = f"[{host}]" if ":" in host else host
        self.values = {
            "url": f"http://{address}:{self.server.server_address[1]}/", "method": "POST",
            "parameters": {"to": "{phone}", "text": "{otp}"}, "headers": {"X-Id": "{id}"},
            "per_number": 0, "per_hour": 0,
        }  # fmt: skip

    def _take(self, instance: str) -> None:
        with self._more:
            self._arrived.setdefault(instance, clock.time())
            self._more.notify_all()

    def wait_for(self, number: int, seconds: float) -> None:
        with self._more:
            if not self._more.wait_for(lambda: len(self._arrived) >= number, seconds):
                raise TimeoutError(f"{len(self._arrived)} of {number} SMS arrived")

    def arrived(self) -> Mapping[str, float]:
        with self._more:
            return dict(self._arrived)


@contextmanager
def _listen(host: str) -> Iterator[Destination]:
    gateway = _Gateway(host)
    thread = threads.Thread(target=gateway.server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield gateway
    finally:
        gateway.server.shutdown()
        thread.join()
        gateway.server.socket.close()  # server_close() would wait for kept connections


def _send(queue: Queue, gateway: str, number: int, expires: float) -> tuple[str, Handle]:
    text = f"Your one-time password is {secrets.randbelow(10**6):06}."
    handle = send_sms(gateway, _PHONE, text, expires=expires, queue=queue)
    return handle.id, handle


EXERCISE = Exercise("sms", "SMS", open_store, "sms:{}", _listen, _send)
