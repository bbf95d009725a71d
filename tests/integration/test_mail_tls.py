"""TLS as it is meant: verified by authority and host name, or no mail."""

from __future__ import annotations

import re
import smtplib
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from certificates import DAY, NOW, Authority, self_signed
from click.testing import CliRunner
from docs.outputs import shown

from pijobs.settings import CORE_SETTINGS, validate
from pijobs_mail.command import mail
from pijobs_mail.engine.delivery import Endpoint, Mail
from pijobs_mail.engine.hints import ADVICE
from pijobs_mail.engine.transport import deliver
from pijobs_mail.errors import LoginRefused, ServerTrouble, TlsRefused
from pijobs_mail.servers.definitions import SETTINGS, open_store
from pijobs_mail.servers.definitions import endpoint as endpoint_of
from pijobs_mail.servers.probe import Probe
from pijobs_mail.sink.server import Fault, Sink

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
    monkeypatch.setattr("pijobs_mail.engine.wire.Wire.loopback", False)
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
    if flaw == "no TLS" and security == "tls":
        advice = "tls in clear"
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


# -- what to change --------------------------------------------------------------------------------------------------


def test_starttls_at_a_port_that_speaks_tls_at_once_says_what_to_change(authority: Authority, tmp_path: Path) -> None:
    with Sink(tls=authority.context(), implicit_tls=True) as sink:
        with pytest.raises(ServerTrouble, match="needs smtps://"):
            deliver(Endpoint(host=sink.host, port=sink.port, security="starttls", timeout=0.5), MAIL)
        last = examined(tmp_path, sink, tls=True, timeout=0.5).steps[-1]
    assert (last.name, last.ok, last.advice) == ("greeting", False, ADVICE["greeting"])
    assert "smtps://" in ADVICE["greeting"]


def test_smtps_at_a_port_that_begins_in_clear_says_what_to_change(authority: Authority, tmp_path: Path) -> None:
    with Sink(tls=authority.context()) as sink:
        with pytest.raises(TlsRefused, match="in place of smtps://"):
            deliver(Endpoint(host=sink.host, port=sink.port, security="tls", timeout=5), MAIL)
        last = examined(tmp_path, sink, server=f"smtps://{sink.host}").steps[-1]
    assert (last.name, last.ok, last.advice) == ("tls", False, ADVICE["tls in clear"])


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="from Python 3.13 on such a certificate is trusted by itself")
def test_the_certificate_of_a_server_as_ca_file_says_what_to_change(authority: Authority, tmp_path: Path) -> None:
    with Sink(tls=authority.context()) as sink:
        leaf = tmp_path / "leaf.pem"
        leaf.write_text(certificate_of(sink))
        place = Endpoint(host=sink.host, port=sink.port, security="starttls", ca_file=str(leaf), timeout=5)
        with pytest.raises(TlsRefused, match="put that of the authority that issued it"):
            deliver(place, MAIL)
        last = examined(tmp_path, sink, tls=True, ca_file=str(leaf)).steps[-1]
    assert (last.name, last.ok, last.advice) == ("tls", False, ADVICE["ca file of a server"])


def certificate_of(sink: Sink) -> str:
    with smtplib.SMTP(sink.host, sink.port, timeout=5) as client:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.starttls(context=context)
        assert isinstance(client.sock, ssl.SSLSocket)
        return ssl.DER_cert_to_PEM_cert(client.sock.getpeercert(binary_form=True) or b"")


def examined(directory: Path, sink: Sink, **values: object) -> Probe:
    settings = validate({"SECRET_KEY": "x" * 32}, [*CORE_SETTINGS, *SETTINGS], directory=directory)
    place = {"server": sink.host, "port": sink.port, "sender": "from@example.com", "timeout": 5}
    examination = Probe(open_store(settings).check({**place, **values}), settings)
    examination.run()
    return examination


def test_a_host_name_with_the_dot_of_dns_is_the_same_name(authority: Authority, tmp_path: Path) -> None:
    settings = validate({"SECRET_KEY": "x" * 32}, [*CORE_SETTINGS, *SETTINGS], directory=tmp_path)
    with Sink(tls=authority.context("localhost")) as sink:
        place = {"server": "localhost.", "port": sink.port, "tls": True, "ca_file": authority.file}
        deliver(endpoint_of(open_store(settings).check(place), settings), MAIL)
        assert len(sink.mails) == 1
        assert examined(tmp_path, sink, **place).steps[-1].ok


def test_the_page_on_mails_shows_what_the_probe_prints_of_a_wrong_password(
    tmp_path: Path, authority: Authority
) -> None:
    """But for what the server says, and its advice where a line ends."""
    settings = validate({"SECRET_KEY": "x" * 32}, [*CORE_SETTINGS, *SETTINGS], directory=tmp_path)
    with Sink(tls=authority.context(), logins={"otp": "hunter2"}) as sink:
        values = {"server": sink.host, "port": sink.port, "tls": True, "ca_file": authority.file, "username": "otp"}
        open_store(settings).save("main", {**values, "password": "wrong", "sender": "otp@example.com"})
        invocation = SimpleNamespace(settings=lambda: settings)
        done = CliRunner().invoke(mail, ["probe", "main"], obj=invocation, standalone_mode=False)
    assert done.return_value == 1, done.output

    def steps(lines: list[str]) -> list[list[str]]:
        return [line.split()[:2] if " ms " in line else [line.strip()] for line in lines]

    assert steps(done.output.splitlines()) == steps(shown("pijobs mail probe main"))
