"""Failures are told bundled: one digest over all workers, by mail or webhook."""

from __future__ import annotations

import email
import email.policy
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from services import free_port

from pijobs import State
from pijobs.storage.records import Record
from pijobs_mail.alerts.job import JOB
from pijobs_mail.send import send_mail
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.sink.server import Received, Sink

from .conftest import MakeSite
from .site import Site

SECRET_PATH = "/hooks/T0KEN-of-the-webhook"
OTP = "739105"
#: A busy machine must not send a mail in the test itself.
SETTINGS: dict[str, Any] = {"PLUGINS": ("mail",), "LEASE": 5, "ENQUEUE_TIMEOUT": 30}


class Webhook:
    """A real HTTP server that keeps what is posted."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.messages.append({"path": self.path, **json.loads(body)})
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}{SECRET_PATH}"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    thread = threading.Thread(target=webhook.server.serve_forever)
    thread.start()
    yield webhook
    webhook.server.shutdown()
    thread.join()
    webhook.server.server_close()


@pytest.fixture
def alert_sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


def text_of(mail: Received) -> str:
    """Subject and text, as a mail program shows them."""
    message = email.message_from_bytes(mail.content, policy=email.policy.default)
    return f"{message['Subject']}\n{message.get_content()}"


def start_workers(site: Site) -> None:
    """Two worker processes, one of them with children. Digests are asked for by the tests, not by the minute."""
    site.start_worker("-n", "-w", "2")
    site.start_worker("-n", "-w", "2", "-k", "process")


def define(site: Site, identifier: str, port: int, **more: Any) -> None:
    values = {"server": "127.0.0.1", "port": port, "sender": f"{identifier}@example.com", "enqueue_job": True}
    open_store(site.queue.settings).save(identifier, {**values, **more})


def fail(site: Site, number: int) -> None:
    """Have so many mails refused."""
    with Sink(faults={"RCPT": "550 5.1.1 no such user"}) as refusing:
        define(site, "main", refusing.port)
        handles = [
            send_mail("main", to=f"alice{n}@example.com", subject="Your code", text=f"It is {OTP}\n", queue=site.queue)
            for n in range(number)
        ]
        for handle in handles:
            assert site.wait_for(handle.id).state is State.DEAD


def make_digest(site: Site) -> Record:
    """One digest of all that has ended by now, as it stands when it has ended."""
    return site.wait_for(site.queue.enqueue(JOB, delay=2.5).id)


def test_what_failed_in_several_processes_is_one_mail_by_another_server(make_site: MakeSite, alert_sink: Sink) -> None:
    to = ["oncall@example.com"]
    site = make_site(**SETTINGS, MAIL_ALERT_SERVER="alerts", MAIL_ALERT_TO=to)
    define(site, "alerts", alert_sink.port)
    start_workers(site)
    fail(site, 12)
    first = make_digest(site)
    assert first.state is State.DONE, first.reason
    (mail,) = alert_sink.mails
    text = text_of(mail)
    assert list(mail.recipients) == ["oncall@example.com"]
    assert "12 failed" in text and "12 x mail.send dead (group smtp:main)" in text, text
    assert "550 5.1.1 no such user" in text and "mail to a***@example.com" in text
    assert "alice" not in text and OTP not in text
    assert make_digest(site).state is State.DONE
    assert len(alert_sink.mails) == 1, "what was told once is not told again"


def test_a_webhook_gets_what_a_mail_would_tell(make_site: MakeSite, webhook: Webhook) -> None:
    site = make_site(**SETTINGS, MAIL_ALERT_WEBHOOK=webhook.url)
    start_workers(site)
    fail(site, 3)
    assert make_digest(site).state is State.DONE
    (message,) = webhook.messages
    assert message["path"] == SECRET_PATH and message["count"] == 3
    (kind,) = message["failures"]
    assert (kind["job"], kind["group"], kind["state"], kind["count"]) == ("mail.send", "smtp:main", "dead", 3)
    assert "3 x mail.send dead" in message["text"]
    assert "alice" not in json.dumps(message) and OTP not in json.dumps(message)
    assert "T0KEN" not in site.output() + site.run("config", "show").stdout


def test_a_digest_that_nobody_took_is_told_by_the_next_one_and_is_no_failure_of_its_own(
    make_site: MakeSite, webhook: Webhook
) -> None:
    site = make_site(**SETTINGS, MAIL_ALERT_WEBHOOK=webhook.url)
    start_workers(site)
    assert make_digest(site).state is State.DONE
    assert webhook.messages == [], "nothing failed, nothing is told"
    fail(site, 2)
    webhook.status = 503
    lost = make_digest(site)
    assert lost.state is State.DEAD and "answered 503" in str(lost.reason)
    assert "T0KEN" not in str(lost.reason)
    webhook.status = 204
    assert make_digest(site).state is State.DONE
    assert [message["count"] for message in webhook.messages] == [2, 2]


def test_where_the_server_that_fails_is_the_only_one_the_check_and_the_record_say_so(make_site: MakeSite) -> None:
    site = make_site(**SETTINGS, MAIL_ALERT_SERVER="main", MAIL_ALERT_TO=["oncall@example.com"])
    start_workers(site)
    fail(site, 2)
    define(site, "main", free_port())
    checked = site.run("config", "check")
    said = " ".join((checked.stdout + checked.stderr).split())
    assert "which is the only one: when it fails, nobody is told" in said
    lost = make_digest(site)
    assert lost.state is State.DEAD
    assert "nobody was told of 2 failures: o***@example.com: DestinationDown" in str(lost.reason)
    with Sink() as back:
        define(site, "main", back.port)
        assert make_digest(site).state is State.DONE
        (mail,) = back.mails
    assert "Some of it failed at the SMTP server 'main', which this mail was sent by, too." in text_of(mail)
