"""Access tokens from a real server of tokens on this machine, and logins by XOAUTH2 with them."""

from __future__ import annotations

import base64
import json
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from services import free_port

from pijobs_mail.engine import auth, oauth
from pijobs_mail.engine.delivery import Endpoint, Mail
from pijobs_mail.engine.oauth import Grant, access_token
from pijobs_mail.engine.replies import Reply
from pijobs_mail.engine.transport import deliver
from pijobs_mail.errors import LoginRefused, ServerTrouble
from pijobs_mail.sink.server import Fault, Sink

MAIL = Mail("from@example.com", ("alice@example.com",), b"Subject: x\r\n\r\nhello\r\n")
SECRET = "client-secret-hunter2"


class TokenServer:
    """Gives tokens, or the answer that it is told to give."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.status, self.lifetime, self.answer = 200, 3600.0, None
        self.headers: dict[str, str] = {}
        owner: Any = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                owner.asked.append(dict(urllib.parse.parse_qsl(body)))
                token = {"access_token": f"token-{len(owner.asked)}", "expires_in": owner.lifetime}
                content = (
                    owner.answer if isinstance(owner.answer, bytes) else json.dumps(owner.answer or token).encode()
                )
                self.send_response(owner.status)
                for name, value in {**owner.headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"

    answer: Any

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def grant(self, **values: Any) -> Grant:
        return Grant(**{"token_url": self.url, "client_id": "app", "client_secret": SECRET, **values})


@pytest.fixture
def token_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    monkeypatch.setattr(oauth, "_tokens", {})
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = TokenServer()
    yield server
    server.stop()


def test_a_client_asks_with_its_own_credentials(token_server: TokenServer) -> None:
    assert access_token(token_server.grant(scope="https://outlook.office365.com/.default"), 30) == "token-1"
    assert token_server.asked == [
        {
            "grant_type": "client_credentials",
            "client_id": "app",
            "client_secret": SECRET,
            "scope": "https://outlook.office365.com/.default",
        }
    ]


def test_a_refresh_token_is_exchanged(token_server: TokenServer) -> None:
    access_token(token_server.grant(refresh_token="1//refresh"), 30)
    assert token_server.asked[0]["grant_type"] == "refresh_token"
    assert token_server.asked[0]["refresh_token"] == "1//refresh"


def test_a_token_is_kept_while_it_is_valid(token_server: TokenServer) -> None:
    assert [access_token(token_server.grant(), 30) for _ in range(3)] == ["token-1"] * 3
    assert len(token_server.asked) == 1


def test_an_ended_token_is_fetched_anew(token_server: TokenServer) -> None:
    token_server.lifetime = 0
    assert [access_token(token_server.grant(), 30) for _ in range(2)] == ["token-1", "token-2"]


def test_another_secret_is_another_token(token_server: TokenServer) -> None:
    first, second = token_server.grant(), token_server.grant(client_secret="changed")
    assert access_token(first, 30) != access_token(second, 30)


def test_a_refusal_is_told_in_its_words(token_server: TokenServer) -> None:
    token_server.status = 401
    token_server.answer = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid secret.\r\nTrace: x"}
    with pytest.raises(LoginRefused, match=r"invalid_client: AADSTS7000215: Invalid secret\.; check oauth_") as refusal:
        access_token(token_server.grant(), 30)
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_of_tokens_in_trouble_is_no_refusal(token_server: TokenServer, status: int) -> None:
    token_server.status, token_server.answer = status, b"<html>"
    with pytest.raises(ServerTrouble, match=f"HTTP status {status}") as trouble:
        access_token(token_server.grant(), 30)
    assert not isinstance(trouble.value, LoginRefused)


@pytest.mark.parametrize(
    "answer",
    [
        b"no json",
        b"[]",
        b'{"token_type": "Bearer"}',
        b'{"access_token": "a\\nb"}',
        b"[" * 60_000,
        b'{"access_token": "a", "expires_in": 1' + b"0" * 400 + b"}",
    ],
    ids=lambda answer: repr(answer[:40]),
)
def test_an_answer_without_a_token_is_trouble(token_server: TokenServer, answer: bytes) -> None:
    token_server.answer = answer
    with pytest.raises(ServerTrouble, match="no access token"):
        access_token(token_server.grant(), 30)


def test_the_secret_follows_no_redirect(token_server: TokenServer) -> None:
    token_server.status, token_server.headers = 302, {"Location": token_server.url}
    with pytest.raises(LoginRefused, match="302"):
        access_token(token_server.grant(), 30)
    assert len(token_server.asked) == 1


def test_a_server_of_tokens_that_is_not_there_is_trouble(token_server: TokenServer) -> None:
    with pytest.raises(ServerTrouble, match="Connection refused"):
        access_token(token_server.grant(token_url=f"http://127.0.0.1:{free_port()}/"), 30)


def test_a_token_is_presented_as_google_and_microsoft_want_it() -> None:
    asked: list[str] = []
    replies = iter([Reply(334, None, ("eyJzdGF0dXMiOiI0MDAifQ==",)), Reply(535, None, ("no",))])

    def ask(command: str) -> Reply:
        asked.append(command)
        return next(replies)

    done = auth.log_in(["PLAIN", "LOGIN", "XOAUTH2"], "otp@example.com", "abc", ask, token=True)
    assert done is not None and (done[0], done[1].code) == ("XOAUTH2", 535)
    assert base64.b64decode(asked[0].split()[-1]) == b"user=otp@example.com\1auth=Bearer abc\1\1"
    assert asked[1:] == [""]


def test_a_token_is_never_given_away_as_a_password() -> None:
    assert auth.log_in(["PLAIN", "LOGIN"], "otp@example.com", "abc", pytest.fail, token=True) is None


def through(sink: Sink, grant: Grant) -> Endpoint:
    return Endpoint(host=sink.host, port=sink.port, username="otp@example.com", oauth=grant, timeout=30)


def test_a_mail_goes_by_a_login_with_a_token(token_server: TokenServer) -> None:
    with Sink(tokens={"otp@example.com": "token-1"}) as sink:
        deliver(through(sink, token_server.grant()), MAIL)
        assert sink.wait_for(1, 30)[0].login == "otp@example.com"


def test_a_token_that_the_smtp_server_refuses_is_fetched_anew(token_server: TokenServer) -> None:
    with Sink(tokens={"otp@example.com": "token-2"}) as sink:
        with pytest.raises(LoginRefused) as refusal:
            deliver(through(sink, token_server.grant()), MAIL)
        assert "token-1" not in str(refusal.value)
        deliver(through(sink, token_server.grant()), MAIL)
        assert len(sink.wait_for(1, 30)) == 1


def test_a_token_that_a_server_repeats_is_blotted_out(token_server: TokenServer) -> None:
    response = base64.b64encode(b"user=otp@example.com\1auth=Bearer token-1\1\1").decode()
    refused = Fault(f"535 5.7.3 token-1 {response} refused")
    with Sink(tokens={}, faults={"AUTH": refused}) as sink, pytest.raises(LoginRefused) as refusal:
        deliver(through(sink, token_server.grant()), MAIL)
    assert "token-1" not in str(refusal.value)
    assert response not in str(refusal.value)
