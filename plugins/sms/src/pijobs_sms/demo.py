"""``pijobs sms demo``: sends one SMS in the request and one by the queue, to a slow gateway."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

from pijobs.base import clock, threads
from pijobs.demo import PATIENCE, Demo, DemoFailed

_PHONE = "+49 170 1234567"


class SmsDemo(Demo):
    """The demo. :param delay: seconds until the gateway answers."""

    def __init__(self, *, delay: float, say: Callable[[str], object]) -> None:
        super().__init__(say=say)
        self._delay = delay
        #: Time and text of each request, by path.
        self._arrived: dict[str, tuple[float, dict[str, str]]] = {}
        self._changed = threads.Condition()

    def start_other_side(self) -> None:
        """A gateway on a port of this machine."""
        demo = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                clock.sleep(demo._delay)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"OK")
                with demo._changed:
                    demo._arrived[self.path.removeprefix("/")] = (clock.time(), dict(parse_qsl(form)))
                    demo._changed.notify_all()

            def log_message(self, *_: object) -> None:
                """Log nothing: the demo reports the requests."""

        self._gateway = self.cleanup.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threads.Thread(target=self._gateway.serve_forever, name="sms-gateway", daemon=True).start()
        self.cleanup.callback(self._gateway.shutdown)

    def show(self) -> None:
        """Send both SMS, and report on them. :raises DemoFailed: if one does not arrive."""
        url = f"http://127.0.0.1:{self._gateway.server_port}"
        for identifier, queued in (("queued", True), ("inline", False)):
            values = {"url": f"{url}/{identifier}", "method": "POST", "parameters": {"to": "{phone}", "text": "{otp}"}}
            self.post(f"/smsgateway/{identifier}", {**values, "timeout": 30, "enqueue_job": queued})
        answered = {
            identifier: self.post("/smsgateway/send_test_sms", {"identifier": identifier, "phone": _PHONE})
            for identifier in ("queued", "inline")
        }
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived.keys() >= answered.keys(), PATIENCE):
                raise DemoFailed(f"an SMS did not arrive within {PATIENCE:g} s; the worker's log: {self.worker_log()}")
        self.say(f"\nThe gateway takes {self._delay:g} s to answer.")
        for identifier, answer in answered.items():
            at, form = self._arrived[identifier]
            took = f"request answered after {answer.seconds * 1000:6.0f} ms, SMS arrived after {at - answer.at:.1f} s"
            self.say(f"  {identifier}: {took}, to {form['to']}: {form['text']}")
