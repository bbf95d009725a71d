"""What takes the place of all SMTP servers while ``pijobs dev`` runs."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from pijobs.settings import CORE_SETTINGS, Settings, validate
from pijobs_mail import plugin
from pijobs_mail.engine.delivery import NO_DEADLINE, Endpoint, Mail
from pijobs_mail.engine.transport import deliver
from pijobs_mail.servers import definitions
from pijobs_mail.sink import page, stand_in
from pijobs_mail.sink.behaviour import Received
from pijobs_mail.sink.stand_in import StandIn

TOLD: list[str] = []


def settings(**values: object) -> Settings:
    return validate({"SECRET_KEY": "s", **values}, [*CORE_SETTINGS, *definitions.SETTINGS])


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[StandIn, Settings]]:
    """One for all tests here, with two mails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "PORT", 0)
        it = StandIn(TOLD.append)
        with it as found:
            applied = settings(**found)
            place = definitions.endpoint({"server": "mail.example.com", "tls": True, "username": "u"}, applied)
            for subject, text, html in (("Code\x1b[2J", "It is 123456.", "<b>It</b>"), ("<script>", "", "")):
                message = EmailMessage()
                message["Subject"] = subject
                message.set_content(text)
                if html:
                    message.add_alternative(html, subtype="html")
                deliver(place, Mail("a@example.com", ("b@example.com",), message.as_bytes()), NO_DEADLINE)
            yield it, applied


@pytest.fixture
def client(running: tuple[StandIn, Settings]) -> FlaskClient:
    return page.make_app(running[0].mails).test_client()


def test_each_mail_goes_there_whatever_the_definition_says(running: tuple[StandIn, Settings]) -> None:
    place = definitions.endpoint({"server": "smtps://mail.example.com", "password": "p"}, running[1])
    assert (place.host, place.security, place.password) == ("127.0.0.1", "plain", "")
    assert definitions.endpoint({"server": "mail.example.com", "port": 25}, settings()) == Endpoint(
        host="mail.example.com", port=25
    )


def test_a_mail_is_told_with_its_text_and_moves_no_cursor(running: tuple[StandIn, Settings]) -> None:
    head, *lines = TOLD[1].split("\n")
    assert head == "mail: a@example.com to b@example.com: Code\ufffd[2J"
    assert lines[0] == "    It is 123456." and lines[-1].endswith("/1")


def test_the_page_lists_the_mails_newest_first(client: FlaskClient) -> None:
    shown = client.get("/").text
    assert shown.index('href="/2"') < shown.index('href="/1"')
    assert "&lt;script&gt;" in shown and "<script>" not in shown


def test_a_mail_is_shown_as_text_as_html_in_a_sandbox_and_as_its_source(client: FlaskClient) -> None:
    answer = client.get("/1")
    assert "<pre>It is 123456.</pre>" in answer.text and "Subject: " in answer.text
    assert '<iframe sandbox title="The mail as HTML" srcdoc="&lt;b&gt;It&lt;/b&gt;"></iframe>' in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert client.get("/9").status_code == 404


def test_a_name_of_the_web_that_leads_here_is_refused(client: FlaskClient) -> None:
    assert client.get("/", base_url="http://evil.example.com").status_code == 403


def test_a_bounded_number_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PORT", 0)
    with (it := StandIn(lambda line: None)):
        for _ in range(stand_in.MOST_MAILS + 1):
            it._sink.keep(Received("a@b", ("c@d",), b"Subject: x\n\n", encrypted=False, login=None, at=0.0))
        assert [number for number, _ in it.mails()][::199] == [2, 201]


def test_a_check_tells_that_mails_go_elsewhere_whoever_defines_the_servers() -> None:
    queue: Any = SimpleNamespace(settings=settings(PI_JOB_QUEUE_MAIL_SINK="127.0.0.1:1025"))
    found = {check.name: check.run for check in plugin.register_checks(queue)}["sink"]()
    assert found.alarm
    assert found.message == "no mail server gets a mail: PI_JOB_QUEUE_MAIL_SINK gives all to 127.0.0.1:1025"
    queue.settings = settings()
    assert "sink" not in {check.name for check in plugin.register_checks(queue)}
