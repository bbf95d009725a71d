"""A webhook takes a message or does not, in bounded time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pijobs_mail.alerts.webhook import WebhookFailed, is_webhook, post

Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that answers one request with these bytes, and then says nothing more; tells its URL."""
    with ExitStack() as stack:
        ended = threading.Event()

        def start(answer: bytes) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def take() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    ended.wait(60)

            thread = threading.Thread(target=take)
            thread.start()
            stack.callback(thread.join)
            stack.callback(ended.set)
            return f"http://127.0.0.1:{listener.getsockname()[1]}/secret"

        yield start


def test_2xx_is_taken(serve: Serve) -> None:
    post(serve(b"HTTP/1.1 204 No Content\r\n\r\n"), {"text": "x"}, patience=30)


@pytest.mark.parametrize("status", [b"301 Moved", b"404 Not Found", b"500 Oops"])
def test_everything_else_is_not(serve: Serve, status: bytes) -> None:
    url = serve(b"HTTP/1.1 " + status + b"\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(WebhookFailed, match=f"answered {status[:3].decode()}") as failed:
        post(url, {"text": "x"}, patience=30)
    assert "secret" not in str(failed.value)


def test_one_that_never_answers_is_left(serve: Serve) -> None:
    with pytest.raises(WebhookFailed, match=r"did not answer within 0\.3 s|TimeoutError"):
        post(serve(b""), {"text": "x"}, patience=0.3)


def test_one_that_speaks_no_http_is_told_by_its_host_alone(serve: Serve) -> None:
    with pytest.raises(WebhookFailed, match=r"127\.0\.0\.1 can't be reached \(BadStatusLine\)"):
        post(serve(b"220 mail.example.com ESMTP\r\n"), {"text": "x"}, patience=30)


def test_a_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(WebhookFailed, match="ConnectionRefusedError"):
        post(f"http://127.0.0.1:{port}/", {"text": "x"}, patience=30)


@pytest.mark.parametrize("url", ["http://localhost/x", "https://chat.example.com:8443/hooks/T?key=1"])
def test_urls_that_can_be_posted_to(url: str) -> None:
    assert is_webhook(url)


@pytest.mark.parametrize(
    "url",
    ["", "chat.example.com", "ftp://host/", "https://", "http://user:pass@host/", "http://host/a b", "http://h\n/", 5],
)
def test_others_are_refused(url: object) -> None:
    assert not is_webhook(url)
