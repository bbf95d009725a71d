"""``pijobs privacyidea``, and the gateways that it makes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from services import wait_until

from pijobs_privacyidea.instance import Instance

if TYPE_CHECKING:
    import flask

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

PATIENCE = 180.0
HTTP_GATEWAY = "privacyidea.lib.smsprovider.HttpSMSProvider.HttpSMSProvider"


class Gateways(HTTPServer):
    """SMS gateways: ``/main`` is out of order, ``/second`` works."""

    taken: list[dict[str, list[str]]]


class Handler(BaseHTTPRequestHandler):
    server: Gateways

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/second":
            self.server.taken.append(parse_qs(url.query))
        self.send_response(200 if url.path == "/second" else 503)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def gateways() -> Iterator[Gateways]:
    server = Gateways(("127.0.0.1", 0), Handler)
    server.taken = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def pijobs(instance: Instance, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("pijobs")), "--config", str(instance.config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE, cwd=instance.here)


def test_the_doctor_finds_a_sound_installation_sound(instance: Instance) -> None:
    done = pijobs(instance, "privacyidea", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SMTP server 'otp': queued, to 127.0.0.1:9" in done.stdout
    assert "mails of otp expire after 120 s (email.validtime)" in done.stdout
    assert "privacyidea-queue-huey is the one of pijobs" in done.stdout


def test_the_doctor_finds_a_login_that_would_go_in_clear(instance: Instance) -> None:
    instance.set_smtp_server("clear", 25, queued=True, server="mail.example.com", username="pi", password="s3cret")
    try:
        done = pijobs(instance, "privacyidea", "doctor")
    finally:
        instance.ask("/smtpserver/clear", "DELETE")
    assert done.returncode == 1
    assert "SMTP server 'clear': wants its login sent in clear" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr


def test_a_queued_sms_goes_to_the_second_gateway_when_the_first_is_out_of_order(
    instance: Instance, gateways: Gateways, app: flask.Flask
) -> None:
    from privacyidea.lib.smsprovider.SMSProvider import send_sms_identifier

    for name in ("main", "second"):
        url = f"http://127.0.0.1:{gateways.server_port}/{name}"
        options = {"option.URL": url, "option.HTTP_METHOD": "GET", "option.PARAMETER1": ""}
        options |= {"option.to": "{phone}", "option.text": "{otp}"}
        instance.ask("/smsgateway", name=name, module=HTTP_GATEWAY, **options)
    made = pijobs(instance, "privacyidea", "sms-gateway", "queued", "--wraps", "main", "--failover", "second")
    assert made.returncode == 0, made.stderr
    assert "PI_SMS_PROVIDER_MODULES" in instance.config.read_text()
    with app.app_context():
        assert send_sms_identifier("queued", "+491701234567", "your code 123456") is True
    assert gateways.taken == []
    with instance.working():
        wait_until(lambda: bool(gateways.taken), PATIENCE, what="the SMS")
    assert gateways.taken[0]["text"] == ["your code 123456"]


def test_a_queued_gateway_that_wraps_nothing_is_refused(instance: Instance) -> None:
    done = pijobs(instance, "privacyidea", "sms-gateway", "queued", "--wraps", "nobody")
    assert done.returncode == 2
    assert "expected the name of a gateway, found 'nobody'" in done.stderr
