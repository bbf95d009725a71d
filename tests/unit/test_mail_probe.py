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
from pijobs_mail.engine.hints import ADVICE
from pijobs_mail.servers.definitions import SETTINGS, open_store
from pijobs_mail.servers.probe import Probe
from pijobs_mail.sink.server import Fault, Sink


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
        assert len(sink.wait_for(2, 30)) == 2
        assert sink.connections == 2  # the steps, and both mails
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
        ("GREETING", Fault(raw=b"220-x\r\n" * 5000), ("greeting", "what it says is no SMTP")),
        ("EHLO", Fault(raw=b"250-x\r\n" * 300_000 + b"250 x\r\n"), ("features", "what it says is no SMTP")),
        ("GREETING", Fault(raw=b"HTTP/1.1 400 Bad Request\r\n"), ("greeting", "what it says is no SMTP")),
        ("GREETING", Fault("554 \x1b[2J gone"), ("greeting", "554 ?[2J gone")),
        ("EHLO", Fault("550 bad name"), ("features", "bad name")),
    ],
)
def test_a_fault_is_found_where_it_is(settings: Settings, step: str, fault: Fault, found: tuple[str, str]) -> None:
    with Sink(faults={step: fault}) as sink:
        last = examine(settings, "alice@example.com", server=sink.host, port=sink.port).steps[-1]
    assert (last.name, last.ok, last.advice) == (found[0], False, ADVICE[found[0]])
    assert found[1] in last.found


@pytest.mark.parametrize(
    ("step", "fault", "advice", "found"),
    [
        ("RCPT", "550 5.1.1 unknown", "recipient", "not taken at RCPT: 550 5.1.1 unknown"),
        ("RCPT", "450 4.2.0 Greylisted, try again in 300 seconds", "greylisting", "450 4.2.0 Greylisted"),
        ("RCPT", "450 4.7.1 <x>: Helo command rejected: Host not found", "helo", "Helo command rejected"),
        ("RCPT", "554 5.7.1 <o@example.com>: Sender address rejected: Access denied", "sender", "Sender address"),
        ("RCPT", "450 4.7.1 Client host rejected: cannot find your hostname, [192.0.2.7]", "machine", "Client host"),
        ("RCPT", "554 5.7.1 Service unavailable; blocked using zen.spamhaus.org", "machine", "blocked using"),
        ("RCPT", "452 4.2.2 mailbox full", "later", "mailbox full"),
        ("MAIL", "550 5.7.60 no permission to send as this sender", "sender", "not taken at MAIL: 550 5.7.60"),
        ("END", "554 5.7.1 looks like spam", "text", "not taken at end of data: 554 5.7.1"),
        ("MAIL", "421 4.3.2 shutting down", "mail", "421 4.3.2"),
        ("END", Fault(hang=True), "no final reply", "no reply from"),
    ],
)
def test_a_mail_that_is_not_taken_is_told_apart_by_what_to_do(
    settings: Settings, step: str, fault: str | Fault, advice: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pijobs_mail.servers.probe.PATIENCE", 0.5)
    with Sink(faults={step: fault}) as sink:
        last = examine(settings, "alice@example.com", server=sink.host, port=sink.port, timeout=5).steps[-1]
    assert (last.name, last.ok, last.advice) == ("mail", False, ADVICE[advice])
    assert found in last.found


def test_a_server_that_takes_one_mail_over_a_connection_is_told_by_the_second(settings: Settings) -> None:
    class OnlyOne(Sink):
        def fault_at(self, step: str, argument: str | None = None) -> Fault | None:
            return Fault("452 4.5.3 Too many messages sent") if step == "MAIL" and self.steps["MAIL"] == 2 else None

    with OnlyOne() as sink:
        last = examine(settings, "alice@example.com", server=sink.host, port=sink.port).steps[-1]
    assert (last.ok, last.advice) == (False, ADVICE["second"])
    assert "the first mail was taken: 250 2.0.0 Ok" in last.found


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


def test_a_size_beyond_all_measure_is_shown_as_it_is(settings: Settings) -> None:
    with Sink(faults={"EHLO": Fault(raw=b"250-x\r\n250 SIZE " + b"9" * 450 + b"\r\n", times=1)}) as sink:
        steps = {step.name: step for step in examine(settings, server=sink.host, port=sink.port).steps}
    assert steps["features"].ok


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
