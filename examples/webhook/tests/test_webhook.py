"""The plugin with a receiver on this machine; the other fixtures are those of ``pijobs.testing``."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pijobs import Queue, State
from pijobs.errors import EncodeError
from pijobs.testing import Drained, ManualClock

EVENT = {"user": "alice", "action": "login"}
Drain = Callable[..., list[Drained]]


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets; answers with ``answers``, one after the other, then 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/events"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        server.got.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
        status, headers = server.answers.pop(0) if server.answers else (204, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def job_settings(receiver: Receiver) -> dict[str, Any]:
    return {
        "PI_JOB_QUEUE_PLUGINS": ["webhook"],
        "PI_JOB_QUEUE_WEBHOOK_ENDPOINTS": {"audit": receiver.url, "nobody": "http://127.0.0.1:9/"},
        "PI_JOB_QUEUE_WEBHOOK_SECRET": "of this test",
    }


def post(queue: Queue, endpoint: str = "audit", **options: Any) -> str:
    return queue.enqueue("webhook.post", kwargs={"endpoint": endpoint, "event": EVENT}, **options).id


def states(attempts: list[Drained]) -> list[State]:
    return [attempt.state for attempt in attempts]


def test_the_event_arrives_signed_and_with_an_id(job_queue: Queue, drain: Drain, receiver: Receiver) -> None:
    instance = post(job_queue)
    assert states(drain()) == [State.DONE]
    [(headers, body)] = receiver.got
    assert body == b'{"action": "login", "user": "alice"}'
    assert headers["X-Event-Id"] == instance
    assert headers["X-Signature-256"] == "sha256=" + hmac.new(b"of this test", body, hashlib.sha256).hexdigest()


def test_an_endpoint_that_is_down_costs_no_attempt_and_the_event_arrives_later(
    job_queue: Queue, drain: Drain, receiver: Receiver
) -> None:
    receiver.answers = [(503, {"Retry-After": "30"})] * 2
    instance = post(job_queue)
    assert states(drain(retries=True)) == [State.SCHEDULED, State.SCHEDULED, State.DONE]
    assert {headers["X-Event-Id"] for headers, _ in receiver.got} == {instance}


def test_it_waits_as_long_as_the_endpoint_asks(
    job_queue: Queue, drain: Drain, receiver: Receiver, job_clock: ManualClock
) -> None:
    receiver.answers = [(429, {"Retry-After": "120"})]
    post(job_queue)
    drain()
    job_clock.advance(119)
    assert drain() == []
    job_clock.advance(1)
    assert states(drain()) == [State.DONE]


@pytest.mark.parametrize("status", [301, 400, 404])
def test_a_refusal_is_a_dead_letter_at_once(job_queue: Queue, drain: Drain, receiver: Receiver, status: int) -> None:
    receiver.answers = [(status, {"Location": receiver.url})]
    post(job_queue)
    assert states(drain(retries=True)) == [State.DEAD]
    assert len(receiver.got) == 1


def test_nobody_there_is_a_destination_that_is_down(job_queue: Queue, drain: Drain) -> None:
    post(job_queue, "nobody")
    [attempt] = drain()
    assert (attempt.state, attempt.error) == (State.SCHEDULED, "DestinationDown")


def test_an_endpoint_without_a_url_is_a_dead_letter(job_queue: Queue, drain: Drain) -> None:
    post(job_queue, "unknown")
    assert states(drain()) == [State.DEAD]


def test_an_event_that_is_none_is_refused_at_the_call(job_queue: Queue) -> None:
    with pytest.raises(EncodeError, match="'event': expected dict"):
        job_queue.enqueue("webhook.post", kwargs={"endpoint": "audit", "event": "login"})
