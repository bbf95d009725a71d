"""``send_sms``: direct or queued by the gateway's toggle, and one request that means what the admin wrote."""

from __future__ import annotations

import base64
import json
import logging
import socket
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import flask
import pytest
from apps import app_in_memory
from certificates import self_signed
from sms_gateway import Answer, Gateway, always, first
from socks_proxy import SocksProxy

from pijobs import DestinationDown, FailJob, RetryJob, State
from pijobs.definitions import CENSORED, DefinitionError, DefinitionNotFound
from pijobs.flask import current_queue
from pijobs_mail.servers.definitions import open_store as open_servers
from pijobs_mail.sink.server import Fault, Sink
from pijobs_sms.answers import retry_after
from pijobs_sms.errors import PhoneError
from pijobs_sms.gateways import open_store
from pijobs_sms.send import send_sms

PHONE = "+491701234567"
TEXT = "Your code is 739105"
PARAMETERS = {"to": "{phone}", "text": "{otp}"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[flask.Flask]:
    """An app whose queue is in memory, where nobody works."""
    app = app_in_memory(tmp_path, "mail", "sms")
    with app.app_context():
        yield app


@pytest.fixture
def gateway(app: flask.Flask) -> Iterator[Gateway]:
    with Gateway() as gateway:
        save("main", url=gateway.url)
        yield gateway


def save(identifier: str, **values: Any) -> None:
    defaults = {"method": "POST", "parameters": PARAMETERS} if "url" in values else {}
    open_store(current_queue().settings).save(identifier, {**defaults, **values})


# -- the toggle, and what is refused at the call -----------------------------------------------------------------------


def test_without_the_box_the_gateway_has_the_sms_when_the_call_returns(gateway: Gateway) -> None:
    assert send_sms("main", PHONE, TEXT).state is State.DONE
    assert [request.form for request in gateway.requests] == [{"to": PHONE, "text": TEXT}]


def test_with_the_box_the_sms_is_queued(gateway: Gateway) -> None:
    save("main", enqueue_job=True)
    assert send_sms("main", PHONE, TEXT).state is State.QUEUED
    assert gateway.requests == []


def test_halves_of_a_letter_stop_no_sms(gateway: Gateway) -> None:
    send_sms("main", PHONE, "1 \ud83d\ude00 \ud83d")
    assert [request.form["text"] for request in gateway.requests] == ["1 😀 \ufffd"]


@pytest.mark.parametrize(
    ("phone", "why"),
    [
        ("hello", "with its country code"),
        ("0170 1234567", "with its country code"),
        ("+4917", "a possible length"),
        ("+499001234567", "a premium one"),
    ],
)
def test_a_number_that_can_not_be_is_refused_and_not_told(gateway: Gateway, phone: str, why: str) -> None:
    with pytest.raises(PhoneError, match=why) as error:
        send_sms("main", phone, TEXT)
    assert phone not in str(error.value) and gateway.requests == []


def test_a_number_without_country_code_belongs_to_the_region(gateway: Gateway) -> None:
    save("main", region="de", phone_format="00")
    send_sms("main", "0170/123 45 67", TEXT)
    assert gateway.requests[0].form["to"] == "00491701234567"


def test_countries_that_are_not_allowed_get_no_sms(gateway: Gateway) -> None:
    save("main", countries="AT ch")
    with pytest.raises(PhoneError, match="expected a number of AT or CH, found one of DE"):
        send_sms("main", PHONE, TEXT)


def test_an_unknown_gateway_is_told(app: flask.Flask) -> None:
    with pytest.raises(DefinitionNotFound, match="there is no smsgateway 'nowhere'"):
        send_sms("nowhere", PHONE, TEXT)


# -- the request -------------------------------------------------------------------------------------------------------


def test_a_get_carries_the_parameters_in_the_query(gateway: Gateway) -> None:
    save("main", method="GET", url=gateway.url + "?from=us")
    send_sms("main", PHONE, "Grüße & {phone}")
    assert gateway.requests[0].query == {"from": "us", "to": PHONE, "text": "Grüße & {phone}"}


def test_json_and_headers_are_filled_and_the_secret_stays_out_of_the_parameters(gateway: Gateway) -> None:
    save(
        "main", encoding="json", password="hunter2", auth="none",
        parameters={**PARAMETERS, "key": "{password}"}, headers={"X-Job": "{id}", "X-To": "{phone}"},
    )  # fmt: skip
    handle = send_sms("main", PHONE, TEXT)
    request = gateway.requests[0]
    assert json.loads(request.body) == {"to": PHONE, "text": TEXT, "key": "hunter2"}
    assert (request.headers["X-Job"], request.headers["X-To"]) == (handle.id, PHONE)
    assert "Authorization" not in request.headers


def test_basic_and_bearer(gateway: Gateway) -> None:
    save("main", username="us", password="hunter2")
    send_sms("main", PHONE, TEXT)
    save("main", auth="bearer")
    send_sms("main", PHONE, TEXT)
    basic = "Basic " + base64.b64encode(b"us:hunter2").decode()
    assert [request.headers["Authorization"] for request in gateway.requests] == [basic, "Bearer hunter2"]


def test_a_connection_is_kept(gateway: Gateway) -> None:
    for _ in range(3):
        send_sms("main", PHONE, TEXT)
    assert len({request.port for request in gateway.requests}) == 1


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("url", "ftp://localhost", "expected a URL http"),
        ("url", "http://u:hunter2@localhost/", "found one; there are fields for it"),
        ("url", "http://{phone}.localhost/", "a placeholder in it"),
        ("proxy", "ftp://localhost", "expected a URL http://… or https://… or socks5"),
        ("body", '{"to": {otp}}', "expected JSON"),
        ("method", "BREW", "expected GET or POST"),
        ("success", "(", "expected a regular expression"),
        ("json_path", "$..status", "expected names and places"),
        ("phone_format", "x", "expected \\+ or 00 or digits"),
        ("region", "Germany", "expected an ISO code"),
        ("per_number", -1, "expected 0 to 1000000"),
        ("parameters", "to={phone}", "expected a JSON object"),
        ("provider", "pigeon", "expected http or smpp or smtp, found pigeon"),
    ],
)
def test_a_gateway_that_can_not_be_is_refused(app: flask.Flask, field: str, value: object, why: str) -> None:
    with pytest.raises(DefinitionError, match=why) as error:
        save("main", **{"url": "http://localhost", field: value})
    assert "hunter2" not in str(error.value)


# -- the answer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_good_status_is_success(gateway: Gateway, status: int) -> None:
    gateway.answer = always(Answer(status, body=""))
    assert send_sms("main", PHONE, TEXT).state is State.DONE


@pytest.mark.parametrize(("status", "counted"), [(429, False), (503, False), (500, True), (504, True)])
def test_trouble_of_the_gateway_waits_as_long_as_it_asks(gateway: Gateway, status: int, counted: bool) -> None:
    gateway.answer = always(Answer(status, retry_after="17"))
    with pytest.raises(DestinationDown) as error:
        send_sms("main", PHONE, TEXT)
    assert (error.value.retry_after, error.value.counted) == (17, counted)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
def test_a_refusal_is_for_good(gateway: Gateway, status: int) -> None:
    gateway.answer = always(Answer(status))
    with pytest.raises(FailJob, match=str(status)):
        send_sms("main", PHONE, TEXT)


def test_a_gateway_that_hangs_is_left_after_its_timeout(gateway: Gateway) -> None:
    save("main", timeout=0.3)
    gateway.answer = always(Answer(hang=True))
    with pytest.raises(DestinationDown, match=r"no answer from 127\.0\.0\.1 within 0\.3 s") as error:
        send_sms("main", PHONE, TEXT)
    assert error.value.counted


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body="x" * 1000),
        Answer(raw=b"HTTP/1.1 200 OK\r\n" + b"X" * 1000),
        Answer(raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    ],
    ids=["body", "headers", "preliminary answers"],
)
def test_a_gateway_that_drips_is_left_after_its_timeout(gateway: Gateway, answer: Answer) -> None:
    save("main", timeout=0.5)
    gateway.answer = always(replace(answer, drip=0.1))
    began = time.monotonic()
    with pytest.raises(DestinationDown, match="no answer") as error:
        send_sms("main", PHONE, TEXT)
    assert error.value.counted
    assert time.monotonic() - began < 5  # the bytes would take ten seconds and more


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nOK",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\nOK\r\n",
        b"\x00\xffSSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    ],
    ids=["half a body", "broken chunk", "no HTTP", "endless headers"],
)
def test_an_answer_that_is_none_leaves_a_doubt_and_no_other_gateway_is_asked(gateway: Gateway, raw: bytes) -> None:
    gateway.answer = first(Answer(raw=raw))
    with pytest.raises(RetryJob, match=r"127\.0\.0\.1 broke off: .*; the SMS may have been sent") as error:
        send_sms("main", PHONE, TEXT)
    assert error.value.kwargs == {"in_doubt": True}
    assert send_sms("main", PHONE, TEXT).state is State.DONE


def test_where_no_answer_came_the_second_gateway_takes_over(gateway: Gateway) -> None:
    gateway.answer = always(Answer(raw=b"HTTP/1.1 200 OK\r\nConte"))
    with pytest.raises(DestinationDown, match=r"127\.0\.0\.1 broke off") as error:
        send_sms("main", PHONE, TEXT)
    assert error.value.counted
    with Gateway() as second:
        save("main", fallback="second")
        save("second", url=second.url)
        assert send_sms("main", PHONE, TEXT).state is State.DONE
        assert len(second.requests) == 1


def test_of_a_huge_answer_only_the_beginning_is_read(gateway: Gateway) -> None:
    gateway.answer = first(Answer(body="OK " + "x" * 100 * 2**20))
    save("main", success="^OK", failure="x" * 70_000)
    tracemalloc.start()
    try:
        assert send_sms("main", PHONE, TEXT).state is State.DONE
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The gateway in this process makes its answer, as text and as bytes.
    assert most < 2.1 * 100 * 2**20
    assert send_sms("main", PHONE, TEXT).state is State.DONE


def test_a_redirect_is_not_followed(gateway: Gateway) -> None:
    with Gateway() as elsewhere:
        gateway.answer = always(Answer(307, location=elsewhere.url))
        with pytest.raises(FailJob, match="the gateway takes nothing from us: 307"):
            send_sms("main", PHONE, TEXT)
        assert (len(gateway.requests), elsewhere.requests) == (1, [])


def test_the_addresses_of_a_name_share_the_time(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(gateway.url.rpartition(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.2", 0), backlog=0) as full, socket.socket() as waiting:
        # Linux takes one more than the backlog; the next one hangs.
        waiting.connect(full.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")
        ])  # fmt: skip
        save("main", url=f"http://sms.example.com:{port}/")
        assert send_sms("main", PHONE, TEXT).state is State.DONE
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
        save("second", url="http://nobody.example.com/")
        with pytest.raises(DestinationDown, match=r"no connection to nobody\.example\.com: no address"):
            send_sms("second", PHONE, TEXT)


def test_a_certificate_is_verified_by_the_authorities_of_the_setting(app: flask.Flask, tmp_path: Path) -> None:
    with Gateway(tls=self_signed(tmp_path, "127.0.0.1")) as gateway:
        save("main", url=gateway.url)
        with pytest.raises(DestinationDown, match=r"no connection to 127\.0\.0\.1: .*self-signed certificate") as error:
            send_sms("main", PHONE, TEXT)
        assert not error.value.counted and gateway.requests == []
        trusting = app_in_memory(tmp_path, "mail", "sms", PI_JOB_QUEUE_SMS_CA_FILE=str(tmp_path / "ca.pem"))
        with trusting.app_context():
            for _ in range(2):
                assert send_sms("main", PHONE, TEXT).state is State.DONE
            assert len({request.port for request in gateway.requests}) == 1
            (tmp_path / "ca.pem").unlink()
            with pytest.raises(DestinationDown, match="PI_JOB_QUEUE_SMS_CA_FILE can't be read"):
                send_sms("main", PHONE, TEXT)


def allow(host: str) -> None:
    """To be spoken to in clear."""
    current_queue().settings._values["PI_JOB_QUEUE_SMS_LOGIN_WITHOUT_TLS"] = [host]


def test_a_proxy_is_asked_for_the_gateway(gateway: Gateway) -> None:
    allow("sms.example.com")
    save("main", url="http://sms.example.com/send?from=us", method="GET", proxy=gateway.url.removesuffix("/send"))
    send_sms("main", PHONE, TEXT)
    (request,) = gateway.requests
    assert (request.headers["Host"], request.query["to"]) == ("sms.example.com", PHONE)


def test_a_proxy_with_a_login(gateway: Gateway) -> None:
    allow("sms.example.com")
    proxy = {"proxy": gateway.url.removesuffix("/send"), "proxy_username": "us", "proxy_password": "hunter2"}
    save("main", url="http://sms.example.com/send", **proxy)
    send_sms("main", PHONE, TEXT)
    login = "Basic " + base64.b64encode(b"us:hunter2").decode()
    assert gateway.requests[0].headers["Proxy-Authorization"] == login


def test_a_socks_proxy_with_a_login(gateway: Gateway) -> None:
    allow("sms.example.com")
    with SocksProxy(("127.0.0.1", gateway.port), "us", "hunter2") as proxy:
        save("main", url="http://sms.example.com/send", proxy=proxy.url, proxy_username="us", proxy_password="hunter2")
        send_sms("main", PHONE, TEXT)
        assert (proxy.asked, gateway.requests[0].form["to"]) == ([("sms.example.com", 80)], PHONE)
        save("main", proxy_password="wrong")
        with pytest.raises(DestinationDown, match=r"no connection to sms\.example\.com") as error:
            send_sms("main", PHONE, TEXT)
        assert not error.value.counted


def test_a_body_is_sent_instead_of_the_parameters(gateway: Gateway) -> None:
    save("main", parameters={}, body='{"to": ["{phone}"], "text": "{otp}", "from": "{sender}"}', sender="ACME")
    send_sms("main", PHONE, 'a "b" \\')
    assert json.loads(gateway.requests[0].body) == {"to": [PHONE], "text": 'a "b" \\', "from": "ACME"}


def test_a_gateway_that_is_not_there_is_down_and_nothing_was_sent(app: flask.Flask) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        save("main", url=f"http://127.0.0.1:{taken.getsockname()[1]}/", per_number=1)
        for _ in range(2):  # the limit does not count it
            with pytest.raises(DestinationDown, match=r"no connection to 127\.0\.0\.1") as error:
                send_sms("main", PHONE, TEXT)
            assert not error.value.counted


def test_a_lie_is_found_out_by_its_patterns(gateway: Gateway) -> None:
    gateway.answer = first(Answer(body="ERROR 17: no credit"), Answer(body="welcome"), Answer(body="OK 4711"))
    save("main", failure="^ERROR", success=r"OK \d+")
    with pytest.raises(FailJob, match="the pattern of failures: 200 ERROR 17: no credit"):
        send_sms("main", PHONE, TEXT)
    with pytest.raises(FailJob, match="does not match the pattern of successes"):
        send_sms("main", PHONE, TEXT)
    assert send_sms("main", PHONE, TEXT).state is State.DONE


def test_an_answer_that_can_not_be_read_is_a_doubt_that_is_tried_again_once_by_the_same_gateway(
    gateway: Gateway,
) -> None:
    gateway.answer = always(Answer(body="OK", headers={"Content-Encoding": "br"}))
    with Gateway() as second:
        save("main", success="^OK", fallback="second", per_number=2)
        save("second", url=second.url)
        with pytest.raises(RetryJob, match="the answer can't be read: 200; the SMS may have been sent") as error:
            send_sms("main", PHONE, TEXT)
        again = {"gateway": "main", "phone": PHONE, "text": TEXT, **(error.value.kwargs or {})}
        with pytest.raises(FailJob, match="may have been sent, twice"):
            current_queue().run("sms.send", (), again)
        with pytest.raises(FailJob, match="at most 2 SMS in an hour"):
            send_sms("main", PHONE, TEXT)
        assert (len(gateway.requests), second.requests) == (2, [])


def test_patterns_look_at_a_value_of_a_json_answer(gateway: Gateway) -> None:
    gateway.answer = first(
        Answer(body='{"messages": [{"status": "0"}]}'), Answer(body='{"messages": [{"status": "4"}]}')
    )
    save("main", json_path="messages.*.status", success="^0$")
    assert send_sms("main", PHONE, TEXT).state is State.DONE
    with pytest.raises(FailJob, match="does not match the pattern of successes"):
        send_sms("main", PHONE, TEXT)


def test_a_header_that_can_not_be_is_refused(gateway: Gateway) -> None:
    save("main", headers={"X-Text": "{otp}"})
    with pytest.raises(FailJob, match="the request can't be"):
        send_sms("main", PHONE, "one\r\nX-Evil: two")
    assert gateway.requests == []


def test_retry_after_is_a_number_or_a_date_and_has_a_bound() -> None:
    later = datetime.now(timezone.utc) + timedelta(seconds=600)
    assert retry_after("7") == 7
    assert 500 < (retry_after(format_datetime(later, usegmt=True)) or 0) <= 600
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert (retry_after("999999"), retry_after("soon"), retry_after(None)) == (3600, None, None)


# -- failover and limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [Answer(500), Answer(429, retry_after="30"), Answer(402), Answer(hang=True)])
def test_the_second_gateway_takes_over(gateway: Gateway, trouble: Answer) -> None:
    gateway.answer = always(trouble)
    with Gateway() as second:
        save("main", fallback="second", timeout=0.3)
        save("second", url=second.url, fallback="main")
        assert send_sms("main", PHONE, TEXT).state is State.DONE
        assert len(second.requests) == 1


def test_a_refused_number_goes_to_no_second_gateway(gateway: Gateway) -> None:
    gateway.answer = always(Answer(400))
    with Gateway() as second:
        save("main", fallback="second")
        save("second", url=second.url)
        with pytest.raises(FailJob):
            send_sms("main", PHONE, TEXT)
        assert second.requests == []


def test_a_gateway_that_failed_again_and_again_is_asked_last(gateway: Gateway) -> None:
    gateway.answer = always(Answer(500))
    with Gateway() as second:
        save("main", fallback="second")
        save("second", url=second.url)
        for _ in range(8):
            send_sms("main", PHONE, TEXT)
        assert (len(gateway.requests), len(second.requests)) == (3, 8)


def test_when_all_fail_the_first_ones_trouble_is_told(gateway: Gateway) -> None:
    gateway.answer = always(Answer(503, body="first"))
    with Gateway(always(Answer(503, body="second"))) as second:
        save("main", fallback="second")
        save("second", url=second.url)
        with pytest.raises(DestinationDown, match="503 first"):
            send_sms("main", PHONE, TEXT)


def test_a_number_gets_no_more_than_its_limit(gateway: Gateway) -> None:
    save("main", per_number=2)
    for _ in range(2):
        send_sms("main", PHONE, TEXT)
    with pytest.raises(FailJob, match="expected at most 2 SMS in an hour to this number, found one more"):
        send_sms("main", PHONE, TEXT)
    send_sms("main", "+491707654321", TEXT)
    assert len(gateway.requests) == 3


def test_a_gateway_sends_no_more_than_its_limit(gateway: Gateway) -> None:
    save("main", per_hour=2)
    send_sms("main", PHONE, TEXT)
    send_sms("main", "+491707654321", TEXT)
    with pytest.raises(FailJob, match="by gateway main"):
        send_sms("main", "+491707654322", TEXT)


def test_what_was_refused_does_not_count_and_what_may_have_been_sent_does(gateway: Gateway) -> None:
    gateway.answer = first(Answer(400), Answer(400), Answer(504))
    save("main", per_number=1)
    for kind in (FailJob, FailJob, DestinationDown):
        with pytest.raises(kind):
            send_sms("main", PHONE, TEXT)
    with pytest.raises(FailJob, match="in an hour"):
        send_sms("main", PHONE, TEXT)


# -- by mail -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sink(app: flask.Flask) -> Iterator[Sink]:
    with Sink() as sink:
        server = {"server": sink.host, "port": sink.port, "sender": "otp@example.com"}
        open_servers(current_queue().settings).save("mails", server)
        save("main", provider="smtp", smtp_server="mails", mail_to="{phone}@sms.example.com", phone_format="digits")
        yield sink


def test_an_sms_goes_by_mail(sink: Sink) -> None:
    send_sms("main", PHONE, TEXT)
    (mail,) = sink.wait_for(1, timeout=120)
    assert mail.recipients == ("491701234567@sms.example.com",)
    assert b"Subject: 491701234567" in mail.content and TEXT.encode() in mail.content


def test_a_mail_that_is_deferred_is_tried_again_and_one_that_is_refused_is_not(sink: Sink) -> None:
    sink.fail_at("RCPT", Fault("451 4.7.1 try later", times=1))
    with pytest.raises(DestinationDown):
        send_sms("main", PHONE, TEXT)
    sink.fail_at("RCPT", Fault("550 5.1.1 unknown", times=1))
    with pytest.raises(FailJob, match="550"):
        send_sms("main", PHONE, TEXT)


# -- what people see ---------------------------------------------------------------------------------------------------


def test_no_log_line_and_no_error_has_a_number_or_an_otp(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    quoting = f"can't reach {PHONE}, 0170 1234567, 00491701234567 or +49 170 1234567 with 739105"
    gateway.answer = first(Answer(200), Answer(400, body=quoting), Answer(503, body=quoting))
    save("main", method="GET", password="hunter2", auth="bearer")
    errors = []
    for _ in range(3):
        try:
            send_sms("main", PHONE, TEXT)
        except (FailJob, DestinationDown) as error:
            errors.append(str(error))
    assert len(errors) == 2 and "can't reach ***" in errors[0]
    for text in (caplog.text, *errors):
        for secret in ("1234567", "739105", "hunter2"):
            assert secret not in text


def test_the_label_masks_the_number(gateway: Gateway) -> None:
    queue = current_queue()
    label = queue.registry["sms.send"].label
    assert label is not None and label(gateway="main", phone=PHONE, text=TEXT) == "SMS to +49***67"


def test_the_password_is_censored(gateway: Gateway) -> None:
    save("main", password="hunter2")
    store = open_store(current_queue().settings)
    assert store.censored(store.get("main"))["password"] == CENSORED
