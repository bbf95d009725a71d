"""``pijobs mail probe``: what is wrong is found at the step where it is wrong, with advice."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from services import free_port

from pijobs import Settings
from pijobs.settings import CORE_SETTINGS, validate
from pijobs_mail.command import mail
from pijobs_mail.probe import ADVICE, Probe
from pijobs_mail.servers import SETTINGS, open_store
from pijobs_mail.sink import Fault, Sink


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return validate({"SECRET_KEY": "x" * 32}, [*CORE_SETTINGS, *SETTINGS], directory=tmp_path)


def examine(settings: Settings, recipient: str | None = None, **values: Any) -> Probe:
    examination = Probe(open_store(settings).check({"sender": "pijobs@example.com", **values}), settings, recipient)
    examination.run()
    return examination


def test_a_healthy_server_has_no_failed_step(settings: Settings) -> None:
    with Sink(logins={"user": "hunter2"}) as sink:
        values = {"server": sink.host, "port": sink.port, "username": "user", "password": "hunter2"}
        steps = examine(settings, "alice@example.com", **values).steps
        assert len(sink.wait_for(1, 30)) == 1
    assert [(step.name, step.ok, step.advice) for step in steps] == [
        (name, True, None) for name in ("dns", "tcp", "greeting", "features", "login", "mail")
    ]


def test_no_mail_goes_unless_it_is_asked_for(settings: Settings) -> None:
    with Sink() as sink:
        examine(settings, server=sink.host, port=sink.port)
        assert sink.mails == []


@pytest.mark.parametrize(
    ("step", "fault", "found"),
    [
        ("GREETING", Fault("554 5.7.1 no service for you"), ("greeting", "no service for you")),
        ("GREETING", Fault(drop=True), ("greeting", "closed")),
        ("GREETING", Fault(raw=b"HTTP/1.1 400 Bad Request\r\n"), ("greeting", "what it says is no SMTP")),
        ("GREETING", Fault("554 \x1b[2J gone"), ("greeting", "554 ?[2J gone")),
        ("EHLO", Fault("550 bad name"), ("features", "bad name")),
        ("RCPT", Fault("550 5.1.1 unknown"), ("mail", "unknown")),
    ],
)
def test_a_fault_is_found_where_it_is(settings: Settings, step: str, fault: Fault, found: tuple[str, str]) -> None:
    with Sink(faults={step: fault}) as sink:
        last = examine(settings, "alice@example.com", server=sink.host, port=sink.port).steps[-1]
    assert (last.name, last.ok, last.advice) == (found[0], False, ADVICE[found[0]])
    assert found[1] in last.found


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"server": "nobody.invalid"}, "dns"),
        ({"server": "127.0.0.1"}, "tcp"),
    ],
)
def test_a_server_that_is_not_there_is_told(settings: Settings, values: dict[str, Any], name: str) -> None:
    last = examine(settings, port=free_port(), **values).steps[-1]
    assert (last.name, last.ok) == (name, False)


def test_a_server_that_hangs_is_told_as_such(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        last = examine(settings, server="127.0.0.1", port=silent.getsockname()[1], timeout=0.3).steps[-1]
    assert (last.name, last.ok, last.found) == ("greeting", False, "timed out")


def test_a_login_that_is_not_offered_is_told(settings: Settings) -> None:
    with Sink() as sink:
        last = examine(settings, server=sink.host, port=sink.port, username="user", password="hunter2").steps[-1]
    assert (last.name, last.found) == ("login", "the server offers no login")
    assert last.advice == ADVICE["no login"]


def test_the_size_that_a_server_takes_is_not_masked_like_an_otp(settings: Settings) -> None:
    with Sink() as sink:
        steps = {step.name: step for step in examine(settings, server=sink.host, port=sink.port).steps}
    assert "SIZE 33.6 MB" in steps["features"].found


def test_starttls_that_is_not_offered_is_told(settings: Settings) -> None:
    with Sink() as sink:
        last = examine(settings, server=sink.host, port=sink.port, tls=True).steps[-1]
    assert (last.name, last.ok) == ("tls", False)


def test_a_server_without_tls_is_told_by_smtps(settings: Settings) -> None:
    with Sink() as sink:
        last = examine(settings, server=f"smtps://{sink.host}", port=sink.port).steps[-1]
    assert (last.name, last.ok) == ("tls", False)


def test_a_key_that_can_not_be_read_is_told(settings: Settings) -> None:
    with Sink() as sink:
        last = examine(settings, server=sink.host, port=sink.port, smime=True, certificate="/nowhere.pem").steps[-1]
    assert (last.name, last.ok) == ("smime", False)


class Invocation:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def settings(self) -> Settings:
        return self._settings


@pytest.mark.parametrize("healthy", [True, False])
def test_the_command_prints_json_and_ends_with_the_verdict(settings: Settings, healthy: bool) -> None:
    with Sink(faults={} if healthy else {"GREETING": "554 no"}) as sink:
        open_store(settings).save("main", {"server": sink.host, "port": sink.port})
        done = CliRunner().invoke(mail, ["probe", "main", "--json"], obj=Invocation(settings), standalone_mode=False)
    assert done.return_value == (0 if healthy else 1)
    told = json.loads(done.output)
    assert (told["server"], told["ok"]) == ("main", healthy)
    assert all(step["seconds"] >= 0 for step in told["steps"])
