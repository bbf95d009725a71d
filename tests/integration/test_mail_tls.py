"""TLS as it is meant: verified by authority and host name, or no mail."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from certificates import DAY, NOW, Authority, self_signed

from pijobs.settings import CORE_SETTINGS, validate
from pijobs_mail.delivery import Endpoint, Mail
from pijobs_mail.errors import LoginRefused, ServerTrouble, TlsRefused
from pijobs_mail.probe import ADVICE, Probe
from pijobs_mail.servers import SETTINGS, open_store
from pijobs_mail.sink import Fault, Sink
from pijobs_mail.transport import deliver

Security = Literal["starttls", "tls"]
SECURE: tuple[Security, ...] = ("starttls", "tls")
MAIL = Mail("from@example.com", ("alice@example.com",), b"Subject: x\r\n\r\nhello\r\n")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secure_sink(authority: Authority, security: Security) -> Iterator[Sink]:
    with Sink(tls=authority.context(), implicit_tls=security == "tls", logins={"user": "hunter2"}) as sink:
        yield sink


def endpoint(sink: Sink, authority: Authority, security: Security, host: str = "127.0.0.1") -> Endpoint:
    return Endpoint(
        host=host,
        port=sink.port,
        security=security,
        username="user",
        password="hunter2",
        timeout=5,
        ca_file=authority.file,
    )


@pytest.mark.parametrize("security", SECURE)
def test_a_mail_goes_encrypted_and_logged_in(secure_sink: Sink, authority: Authority, security: Security) -> None:
    deliver(endpoint(secure_sink, authority, security), MAIL)
    mail = secure_sink.wait_for(1, 5)[0]
    assert (mail.encrypted, mail.login, mail.recipients) == (True, "user", MAIL.recipients)


@pytest.mark.parametrize("security", SECURE)
def test_a_login_may_leave_the_machine_when_it_is_encrypted(
    secure_sink: Sink, authority: Authority, security: Security, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pijobs_mail.wire.Wire.loopback", False)
    deliver(endpoint(secure_sink, authority, security), MAIL)
    assert secure_sink.wait_for(1, 5)[0].login == "user"


@pytest.mark.parametrize("security", SECURE)
@pytest.mark.parametrize(
    ("flaw", "reason"),
    [
        ("expired", "expired"),
        ("wrong host", "mismatch"),
        ("self-signed", "self-signed|self signed"),
        ("unknown authority", "unable to get local issuer"),
    ],
)
def test_a_certificate_that_is_not_right_means_no_mail(
    authority: Authority, tmp_path: Path, security: Security, flaw: str, reason: str
) -> None:
    contexts: dict[str, Callable[[], ssl.SSLContext]] = {
        "expired": lambda: authority.context(until=NOW - DAY),
        "wrong host": lambda: authority.context(host="other.example"),
        "self-signed": lambda: self_signed(tmp_path, "127.0.0.1"),
        "unknown authority": lambda: Authority(tmp_path, "stranger").context(),
    }
    with Sink(tls=contexts[flaw](), implicit_tls=security == "tls", logins={"user": "hunter2"}) as sink:
        with pytest.raises(TlsRefused, match=reason):
            deliver(endpoint(sink, authority, security), MAIL)
        assert (sink.steps["AUTH"], sink.steps["MAIL"], sink.mails) == (0, 0, [])


@pytest.mark.parametrize("security", SECURE)
@pytest.mark.parametrize(
    ("flaw", "found", "advice"),
    [
        ("expired", "certificate has expired", "certificate ended"),
        ("wrong host", "not valid for '127.0.0.1'.*; it is for other.example", "certificate name"),
        ("self-signed", "self-signed certificate|self signed certificate", "certificate authority"),
        ("unknown authority", "unable to get local issuer", "certificate authority"),
        ("no TLS", "WRONG_VERSION_NUMBER|does not offer it", "tls"),
        ("CA file", "/nowhere.pem can't be used: No such file", "ca file"),
    ],
)
def test_the_probe_tells_what_is_wrong_with_tls_and_what_to_do(
    authority: Authority, tmp_path: Path, security: Security, flaw: str, found: str, advice: str
) -> None:
    contexts: dict[str, Callable[[], ssl.SSLContext | None]] = {
        "expired": lambda: authority.context(until=NOW - DAY),
        "wrong host": lambda: authority.context(host="other.example"),
        "self-signed": lambda: self_signed(tmp_path, "127.0.0.1"),
        "unknown authority": lambda: Authority(tmp_path, "stranger").context(),
        "no TLS": lambda: None,
        "CA file": authority.context,
    }
    context = contexts[flaw]()
    settings = validate({"SECRET_KEY": "x" * 32}, [*CORE_SETTINGS, *SETTINGS], directory=tmp_path)
    with Sink(tls=context, implicit_tls=security == "tls" and context is not None) as sink:
        values = {
            "server": f"{'smtps' if security == 'tls' else 'smtp'}://{sink.host}:{sink.port}",
            "tls": security == "starttls",
            "ca_file": "/nowhere.pem" if flaw == "CA file" else authority.file,
        }
        examination = Probe(open_store(settings).check(values), settings)
        assert not examination.run()
    last = examination.steps[-1]
    assert (last.name, last.ok, last.advice) == ("tls", False, ADVICE[advice])
    assert re.search(found, last.found), last.found


def test_a_server_that_refuses_starttls_gets_no_mail(authority: Authority) -> None:
    with Sink(tls=authority.context(), faults={"STARTTLS": "454 4.7.0 TLS not available"}) as sink:
        with pytest.raises(TlsRefused, match="454"):
            deliver(endpoint(sink, authority, "starttls"), MAIL)
        assert sink.steps["MAIL"] == 0


def test_bytes_in_clear_after_the_answer_to_starttls_are_an_attack(authority: Authority) -> None:
    injected = Fault(raw=b"220 go on\r\n250 injected\r\n")
    with Sink(tls=authority.context(), faults={"STARTTLS": injected}) as sink:
        with pytest.raises(TlsRefused, match="attack"):
            deliver(endpoint(sink, authority, "starttls"), MAIL)
        assert sink.steps["MAIL"] == 0


def test_a_server_that_does_not_speak_tls_gets_no_mail_by_smtps(authority: Authority) -> None:
    with Sink() as sink, pytest.raises(TlsRefused):
        deliver(endpoint(sink, authority, "tls"), MAIL)


def test_a_server_that_is_silent_in_the_handshake_is_trouble(authority: Authority) -> None:
    hang = Fault(raw=b"220 go on\r\n")
    with Sink(tls=authority.context(), faults={"STARTTLS": hang}) as sink:
        quick = Endpoint(host=sink.host, port=sink.port, security="starttls", timeout=0.3, ca_file=authority.file)
        with pytest.raises(ServerTrouble):
            deliver(quick, MAIL)


@pytest.mark.parametrize("security", SECURE)
def test_a_wrong_password_is_trouble_of_the_server(secure_sink: Sink, authority: Authority, security: Security) -> None:
    wrong = Endpoint(
        host="127.0.0.1",
        port=secure_sink.port,
        security=security,
        username="user",
        password="wrong",
        ca_file=authority.file,
    )
    with pytest.raises(LoginRefused):
        deliver(wrong, MAIL)
    assert secure_sink.mails == []
