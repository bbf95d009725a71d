"""Web hooks with a receiver on this machine; the other fixtures are those of ``pijobs.testing``."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import flask
import pytest

from pijobs import Queue, State
from pijobs.errors import EncodeError, SettingsError
from pijobs.testing import Drained, ManualClock
from pijobs_webhook import intake, jobs, post, signature
from pijobs_webhook.connections import Connections

EVENT = {"type": "user.signed_in", "data": {"user": "Zoë"}}
KEYS = [f"whsec_{base64.b64encode(letter * 24).decode()}" for letter in (b"n", b"o")]
Drain = Callable[..., list[Drained]]


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets, and by how many connections; answers with ``answers``, one after the other, then 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.connections: set[Any] = set()
        self.url = f"http://127.0.0.1:{self.server_port}/events?key=s3cret"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        server.connections.add(self.client_address)
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.got.append((headers, self.rfile.read(int(headers["content-length"]))))
        status, told = server.answers.pop(0) if server.answers else (204, {})
        if not status:  # no answer
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in told.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def job_settings(receiver: Receiver) -> dict[str, Any]:
    return {
        "PI_JOB_QUEUE_PLUGINS": ["webhook"],
        "PI_JOB_QUEUE_WEBHOOK_ENDPOINTS": {
            "audit": receiver.url, "other": receiver.url, "nobody": "http://127.0.0.1:9/", "plain": receiver.url,
        },
        "PI_JOB_QUEUE_WEBHOOK_SECRETS": {"audit": KEYS, "other": KEYS[0]},
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _no_connection_is_left(job_queue: Queue) -> Iterator[None]:
    yield
    Connections.of(job_queue.settings).close()


def send(queue: Queue, endpoint: str = "audit", **options: Any) -> str:
    return queue.enqueue("webhook.post", kwargs={"endpoint": endpoint, "event": EVENT}, **options).id


def states(attempts: list[Drained]) -> list[State]:
    return [attempt.state for attempt in attempts]


def test_the_event_arrives_signed_by_each_key(job_queue: Queue, drain: Drain, receiver: Receiver) -> None:
    instance = send(job_queue)
    assert states(drain()) == [State.DONE]
    [(headers, body)] = receiver.got
    assert body == '{"type":"user.signed_in","data":{"user":"Zoë"}}'.encode()
    assert (headers["webhook-id"], headers["content-type"]) == (instance, "application/json")
    signed = f"{instance}.{headers['webhook-timestamp']}.".encode() + body
    made = [
        base64.b64encode(hmac.new(letter * 24, signed, hashlib.sha256).digest()).decode() for letter in (b"n", b"o")
    ]
    assert headers["webhook-signature"] == " ".join(f"v1,{one}" for one in made)


def test_a_signature_is_the_one_that_the_specifications_libraries_make() -> None:
    """The example of the libraries of Standard Webhooks."""
    told = signature.headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    )
    assert told["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_endpoint_without_a_key_gets_no_signature(job_queue: Queue, drain: Drain, receiver: Receiver) -> None:
    send(job_queue, "plain")
    drain()
    assert "webhook-signature" not in receiver.got[0][0] and "webhook-id" in receiver.got[0][0]


def test_connections_are_kept(job_queue: Queue, drain: Drain, receiver: Receiver) -> None:
    for endpoint in ("audit", "other", "audit"):
        send(job_queue, endpoint)
    assert states(drain()) == [State.DONE] * 3
    assert len(receiver.connections) == 1


def test_an_endpoint_that_is_down_costs_no_attempt_and_the_event_arrives_later(
    job_queue: Queue, drain: Drain, receiver: Receiver
) -> None:
    receiver.answers = [(503, {"Retry-After": "30"})] * 2
    instance = send(job_queue)
    assert states(drain(retries=True)) == [State.SCHEDULED, State.SCHEDULED, State.DONE]
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {instance}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("120", 120.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None), ("-1", None)],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, seconds: float | None) -> None:
    assert jobs._seconds(value) == seconds


def test_it_waits_as_long_as_the_endpoint_asks(
    job_queue: Queue, drain: Drain, receiver: Receiver, job_clock: ManualClock
) -> None:
    receiver.answers = [(429, {"Retry-After": "120"})]
    send(job_queue)
    drain()
    job_clock.advance(119)
    assert drain() == []
    job_clock.advance(1)
    assert states(drain()) == [State.DONE]


@pytest.mark.parametrize("status", [301, 400, 404, 410])
def test_a_refusal_is_a_dead_letter_at_once(job_queue: Queue, drain: Drain, receiver: Receiver, status: int) -> None:
    receiver.answers = [(status, {"Location": receiver.url})]
    send(job_queue)
    assert states(drain(retries=True)) == [State.DEAD]
    assert len(receiver.got) == 1


def test_an_event_whose_fate_is_unknown_is_sent_again_and_told_by_its_id(
    job_queue: Queue, drain: Drain, receiver: Receiver
) -> None:
    receiver.answers = [(0, {})]
    instance = send(job_queue)
    assert states(drain(retries=True)) == [State.SCHEDULED, State.DONE]
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [instance, instance]


def test_nobody_there_is_a_destination_that_is_down_and_no_url_is_told(job_queue: Queue, drain: Drain) -> None:
    instance = send(job_queue, "nobody")
    [attempt] = drain()
    assert (attempt.state, attempt.error) == (State.SCHEDULED, "DestinationDown")
    record = job_queue.places.find(instance)[1]
    assert record.group == "webhook:127.0.0.1" and "127.0.0.1:9" not in str(record.history)


def test_an_endpoint_without_a_url_is_a_dead_letter(job_queue: Queue, drain: Drain) -> None:
    send(job_queue, "unknown")
    assert states(drain()) == [State.DEAD]


def test_an_event_that_is_none_is_refused_at_the_call(job_queue: Queue) -> None:
    with pytest.raises(EncodeError, match="'event': expected dict"):
        job_queue.enqueue("webhook.post", kwargs={"endpoint": "audit", "event": "login"})


@pytest.mark.parametrize(
    "secret",
    ["plain text", "whsec_c2hvcnQ=", "whsec_***", ["whsec_"], {}],
    ids=["text", "short", "no base64", "empty", "none"],
)
def test_a_key_that_signs_nothing_is_refused(job_settings: dict[str, Any], secret: Any) -> None:
    from pijobs.factory import configure

    with pytest.raises(SettingsError, match="PI_JOB_QUEUE_WEBHOOK_SECRETS") as caught:
        configure({**job_settings, "SECRET_KEY": "x" * 32, "PI_JOB_QUEUE_WEBHOOK_SECRETS": {"audit": secret}})
    assert "plain text" not in str(caught.value)


@pytest.fixture
def intake_app(tmp_path: Path, job_settings: dict[str, Any]) -> flask.Flask:
    lines = {**job_settings, "SECRET_KEY": "x" * 32, "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue"}
    lines["PI_JOB_QUEUE_URL"] = f"sqlite:///{tmp_path}/queue.sqlite"
    config = tmp_path / "pi.cfg"
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in lines.items()))
    config.chmod(0o600)
    return intake.create_app(config)


def test_what_a_program_of_this_host_posts_is_queued_as_it_is(intake_app: flask.Flask) -> None:
    client = intake_app.test_client()
    form = "application/x-www-form-urlencoded"
    assert client.post("/audit", data=b"user=alice", content_type=form).status_code == 202
    with intake_app.app_context():
        from pijobs.flask import current_queue

        record = current_queue().places.storage.page(State.QUEUED).records[0]
        assert (record.name, record.label) == ("webhook.forward", "web hook to audit")
        assert post("audit", EVENT).state is State.QUEUED
    assert client.post("/elsewhere").status_code == 404
    assert client.post("/audit", environ_overrides={"REMOTE_ADDR": "192.0.2.1"}).status_code == 403
    assert client.post("/audit", environ_overrides={"REMOTE_ADDR": "::1"}, data=b"{}").status_code == 202


def test_a_body_that_was_forwarded_keeps_its_type(job_queue: Queue, drain: Drain, receiver: Receiver) -> None:
    job_queue.enqueue("webhook.forward", kwargs={"endpoint": "plain", "body": b"a=b", "content_type": "text/x"})
    assert states(drain()) == [State.DONE]
    [(headers, body)] = receiver.got
    assert (headers["content-type"], body) == ("text/x", b"a=b")
