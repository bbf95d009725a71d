"""SMTP servers over HTTP: the routes, their rights, and what may be seen of a secret."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from pijobs.server import create_app
from pijobs_mail.sink.server import Fault, Sink

PASSWORD = "correct horse battery"
CONFIG = """\
SECRET_KEY = {secret!r}
SQLALCHEMY_DATABASE_URI = 'sqlite:///{directory}/pijobs.sqlite'
PI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'
PI_JOB_QUEUE_URL = 'sqlite:///{directory}/queue.sqlite'
PI_JOB_QUEUE_PLUGINS = ['mail']
PI_JOB_QUEUE_MAIL_LOGIN_WITHOUT_TLS = ['known.example.com']
"""


class Client:
    """Somebody who signed in."""

    def __init__(self, client: FlaskClient, name: str) -> None:
        self._client = client
        self._headers: dict[str, str] = {}
        token = self.call("POST", "/auth", username=name, password=PASSWORD)["token"]
        self._headers = {"Authorization": token}

    def ask(self, method: str, path: str, **values: Any) -> tuple[int, dict[str, Any]]:
        """Status and result."""
        response = self._client.open(path, method=method, json=values or None, headers=self._headers)
        assert response.json is not None
        return response.status_code, response.json["result"]

    def call(self, method: str, path: str, **values: Any) -> Any:
        status, result = self.ask(method, path, **values)
        assert (status, result["status"]) == (200, True), result
        return result["value"]


@pytest.fixture(scope="module")
def sign_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Client]:
    """Signs in to one server for all tests of this module."""
    directory = tmp_path_factory.mktemp("server")
    config = directory / "pi.cfg"
    config.write_text(CONFIG.format(secret="x" * 32, directory=directory))
    config.chmod(0o600)
    for role in ("viewer", "admin"):
        add = [sys.executable, "-m", "pijobs", "--config", str(config), "admin", "add", role, "--role", role]
        subprocess.run([*add, "--password-stdin"], input=f"{PASSWORD}\n".encode(), check=True, capture_output=True)
    app = create_app(config)
    return lambda name: Client(app.test_client(), name)


@pytest.fixture
def admin(sign_in: Callable[[str], Client]) -> Iterator[Client]:
    client = sign_in("admin")
    yield client
    for identifier in client.call("GET", "/smtpserver/"):
        client.call("DELETE", f"/smtpserver/{identifier}")


def values_for(sink: Sink, **values: Any) -> dict[str, Any]:
    return {"server": sink.host, "port": sink.port, "sender": "pijobs@example.com", **values}


def test_a_saved_server_comes_back_without_its_secrets(admin: Client) -> None:
    values = {"server": "smtps://mail.example.com", "username": "user", "password": "hunter2", "enqueue_job": True}
    assert admin.call("POST", "/smtpserver/main", **values) is True
    servers = admin.call("GET", "/smtpserver/")
    assert {name: servers["main"][name] for name in values} == {**values, "password": "__CENSORED__"}


@pytest.mark.parametrize("values", [{}, {"username": "user", "password": "hunter2"}])
def test_a_server_without_tls_is_refused_unless_it_is_named(admin: Client, values: dict[str, str]) -> None:
    values = {"server": "mail.example.com", **values}
    answer = admin.ask("POST", "/smtpserver/main", **values)
    assert answer[0] == 400 and "LOGIN_WITHOUT_TLS" in answer[1]["error"]["message"]
    assert "hunter2" not in str(answer) and "main" not in admin.call("GET", "/smtpserver/")
    unsaved = {**values, "sender": "pijobs@example.com", "recipient": "alice@example.com"}
    answer = admin.ask("POST", "/smtpserver/send_test_email", **unsaved)
    assert answer[0] == 400 and "LOGIN_WITHOUT_TLS" in answer[1]["error"]["message"] and "hunter2" not in str(answer)
    for protected in ({"tls": True}, {"server": "smtps://mail.example.com"}, {"server": "127.0.0.1"}):
        assert admin.call("POST", "/smtpserver/main", **{**values, "tls": False, **protected}) is True
    assert admin.call("POST", "/smtpserver/known", **{**values, "server": "known.example.com"}) is True


def test_a_censored_password_keeps_the_stored_one(admin: Client) -> None:
    with Sink(logins={"user": "hunter2"}) as sink:
        admin.call("POST", "/smtpserver/main", **values_for(sink, username="user", password="hunter2"))
        admin.call("POST", "/smtpserver/main", **values_for(sink, username="user", password="__CENSORED__"))
        assert admin.call("POST", "/smtpserver/send_test_email", identifier="main", recipient="a@example.com") is True
        assert sink.wait_for(1, 5)[0].login == "user"


def test_a_server_can_be_deleted_once(admin: Client) -> None:
    admin.call("POST", "/smtpserver/main", server="smtps://mail.example.com")
    assert admin.call("DELETE", "/smtpserver/main") is True
    assert admin.ask("DELETE", "/smtpserver/main")[0] == 404


def test_all_faults_of_a_definition_are_told_at_once(admin: Client) -> None:
    status, result = admin.ask("POST", "/smtpserver/main", server="a b", port=0, timeout=0)
    assert (status, result["status"]) == (400, False)
    assert all(name in result["error"]["message"] for name in ("server", "port", "timeout"))


def test_the_port_of_smtps_is_465(admin: Client) -> None:
    admin.call("POST", "/smtpserver/main", server="smtps://mail.example.com")
    assert admin.call("GET", "/smtpserver/")["main"]["port"] == 465


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/smtpserver/x"), ("DELETE", "/smtpserver/x"), ("POST", "/smtpserver/send_test_email")],
)
def test_a_viewer_may_look_and_nothing_else(sign_in: Callable[[str], Client], method: str, path: str) -> None:
    viewer = sign_in("viewer")
    assert viewer.ask("GET", "/smtpserver/")[0] == 200
    assert viewer.ask(method, path, server="mail.example.com", recipient="a@example.com")[0] == 403


def test_a_test_mail_without_the_box_is_there_when_the_answer_is(admin: Client, smtp_sink: Sink) -> None:
    smtp_sink.delay = 0.05
    definition = values_for(smtp_sink)
    started = time.monotonic()
    assert admin.call("POST", "/smtpserver/send_test_email", recipient="a@example.com", **definition) is True
    assert time.monotonic() - started > 6 * 0.05
    assert [mail.recipients for mail in smtp_sink.mails] == [("a@example.com",)]


@pytest.mark.parametrize("saved", [True, False])
def test_a_test_mail_with_the_box_leaves_the_request(admin: Client, smtp_sink: Sink, saved: bool) -> None:
    values = values_for(smtp_sink, enqueue_job=True)
    if saved:
        admin.call("POST", "/smtpserver/main", **values)
    sent = {"identifier": "main", **({} if saved else values)}
    assert admin.call("POST", "/smtpserver/send_test_email", recipient="a@example.com", **sent) is True
    assert smtp_sink.connections == 0


@pytest.mark.parametrize(
    ("step", "fault", "reason"),
    [
        ("RCPT", Fault("550 5.1.1 unknown"), "1 of 1 recipients refused: a***@example.com: 550 5.1.1 unknown"),
        ("RCPT", Fault("451 4.7.1 greylisted"), "1 of 1 recipients deferred"),
        ("GREETING", Fault("554 5.3.2 go away"), "554 5.3.2 go away"),
        ("MAIL", Fault(drop=True), "broke at MAIL"),
    ],
)
def test_a_failing_test_mail_answers_with_the_reason(
    admin: Client, smtp_sink: Sink, step: str, fault: Fault, reason: str
) -> None:
    smtp_sink.fail_at(step, fault)
    status, result = admin.ask(
        "POST", "/smtpserver/send_test_email", recipient="a@example.com", **values_for(smtp_sink)
    )
    assert (status, result["status"]) == (502, False)
    assert reason in result["error"]["message"]


@pytest.mark.parametrize(
    "wrong", [{"recipient": None}, {"recipient": "no body"}, {"recipient": "a@example.com\r\nDATA"}, {"sender": ""}]
)
def test_a_test_mail_that_can_not_be_is_refused(admin: Client, smtp_sink: Sink, wrong: dict[str, Any]) -> None:
    values = {"recipient": "a@example.com", **values_for(smtp_sink), **wrong}
    assert admin.ask("POST", "/smtpserver/send_test_email", **values)[0] == 400
    assert smtp_sink.connections == 0


def test_no_secret_and_no_address_is_in_the_files(admin: Client, smtp_sink: Sink, sign_in: Any) -> None:
    values = values_for(smtp_sink, username="user", password="hunter2-hunter2", enqueue_job=True)
    admin.call("POST", "/smtpserver/main", **values)
    for identifier in ("main", "unsaved"):
        sent = {"identifier": identifier, "recipient": "somebody@example.com", **values}
        admin.call("POST", "/smtpserver/send_test_email", **sent)
    directory = Path(admin._client.application.extensions["pijobs"].settings.directory)
    stored = b"".join(path.read_bytes() for path in directory.glob("*.sqlite*"))
    assert b"smtp:main" in stored
    assert b"hunter2" not in stored
    assert b"somebody" not in stored


def test_a_password_is_asked_for_anew_before_another_host_is_given_it(admin: Client) -> None:
    with Sink(logins={"user": "hunter2"}) as sink, Sink(logins={"user": "hunter2"}) as evil:
        admin.call("POST", "/smtpserver/main", **values_for(sink, username="user", password="hunter2"))
        elsewhere = {"server": evil.host, "port": evil.port}
        for kept in ({}, {"password": "__CENSORED__"}):
            for path, more in (
                ("/smtpserver/main", {}),
                ("/smtpserver/send_test_email", {"identifier": "main", "recipient": "a@example.com"}),
            ):
                status, result = admin.ask("POST", path, **elsewhere, **kept, **more)
                assert status == 400 and "expected the password anew" in result["error"]["message"]
        assert evil.mails == []
        assert admin.call("POST", "/smtpserver/main", **elsewhere, password="hunter2") is True
