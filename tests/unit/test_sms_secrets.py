"""What gateways repeat and people read holds no secret; patterns and answers take no time."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import flask
import pytest
from apps import app_in_memory
from costs import NASTY, costs_little
from sms_gateway import Answer, Gateway, always

from pijobs import FailJob
from pijobs.definitions import CENSORED, DefinitionError
from pijobs.flask import current_queue
from pijobs_sms.answers import MAX_ANSWER, retry_after
from pijobs_sms.answers import Answer as Judged
from pijobs_sms.errors import SmsError
from pijobs_sms.gateways import open_store
from pijobs_sms.patterns import found, pattern_fault
from pijobs_sms.plugin import register_checks
from pijobs_sms.send import send_sms

PHONE = "+491701234567"
TEXT = "Your code is 739105"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[flask.Flask]:
    """An app whose queue is in memory, where nobody works."""
    app = app_in_memory(tmp_path, "sms")
    with app.app_context():
        yield app


@pytest.fixture
def gateway(app: flask.Flask) -> Iterator[Gateway]:
    with Gateway() as gateway:
        save("main", url=gateway.url, method="POST", parameters={"to": "{phone}", "text": "{otp}"})
        yield gateway


def save(identifier: str, **values: Any) -> None:
    open_store(current_queue().settings).save(identifier, values)


# -- what of a request comes back, and what of an answer is kept -----------------------------------------------------


ECHOES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "for a URL": lambda text: quote(text, safe=""),
    "for a form": quote_plus,
    "for HTML": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "for JSON": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "as Base64": lambda text: b64encode(text.encode()).decode(),
}


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [200, 400])
def test_a_gateway_that_repeats_its_request_tells_nobody(
    gateway: Gateway, status: int, echo: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    secrets = {"key": "APIKEY-SECRET-88", "token": "tok/en+4711==", "password": "hunter2 & more"}
    save(
        "main", url=f"{gateway.url}?token={quote(secrets['token'], safe='')}", headers={"X-Api-Key": secrets["key"]},
        password=secrets["password"], auth="bearer",
    )  # fmt: skip
    said = " ".join(f"x={ECHOES[echo](one)}&" for one in (PHONE, "123456", *secrets.values()))
    gateway.answer = always(Answer(status, body=said))
    shown = ""
    try:
        send_sms("main", PHONE, "Your code:123456")
    except FailJob as error:
        shown = str(error)
    shown += "".join(record.getMessage() for record in caplog.records)
    for one in (PHONE, "123456", *secrets.values()):
        assert one not in shown and ECHOES[echo](one) not in shown


def test_of_a_good_answer_only_what_its_pattern_picks_out_is_kept() -> None:
    fields = {"success": r"^OK (\w+)", "failure": "", "json_path": "", "busy": ""}
    assert Judged(200, "OK 4f1c2 for 491701234567, text 'Your code'").judged(fields) == "200 4f1c2"
    assert Judged(200, "OK 4f1c2 etc").judged({**fields, "success": "^OK"}) == "200 OK"


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [("(?=OK)", "invalid perl operator"), (r"(a)\1", "invalid escape"), ("(", "missing"), ("\ud800", "fault")],
)
def test_a_pattern_that_could_go_back_in_the_text_is_refused_when_it_is_saved(
    app: flask.Flask, pattern: str, fault: str
) -> None:
    for field in ("success", "failure"):
        with pytest.raises(DefinitionError, match=f"{field}: expected a regular expression as RE2.*{fault}"):
            save("main", url="https://sms.example.com/", **{field: pattern})


def test_a_pattern_of_an_older_release_is_told_before_anything_is_sent(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr("pijobs.definitions.Field.fault", lambda *_: None)
        save("main", success="(?=OK)")
    with pytest.raises(FailJob, match="success: expected a regular expression as RE2 knows them"):
        send_sms("main", PHONE, TEXT)
    assert gateway.requests == []


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*x", r"(\w+\s?)+$"])
def test_no_pattern_makes_a_long_answer_take_long(pattern: str) -> None:
    assert pattern_fault(pattern) is None
    for body in ("a" * MAX_ANSWER + "!", "a " * (MAX_ANSWER // 2) + "!"):
        assert costs_little(lambda body=body: found(pattern, body))  # type: ignore[misc]


@pytest.mark.parametrize("nasty", NASTY)
def test_no_answer_takes_long_to_judge(nasty: str) -> None:
    content = NASTY[nasty].encode("utf-8", "replace")
    for fields in (
        {"success": r"(\w+ )+ok$", "failure": "ERR", "json_path": "", "busy": ""},
        {"success": "^0$", "failure": "", "json_path": "a.*.b", "busy": ""},
    ):
        assert costs_little(lambda fields=fields: judged(content, fields))  # type: ignore[misc]
    assert costs_little(lambda: retry_after(NASTY[nasty]))


@pytest.mark.parametrize(
    "value", ["Mon, 01 Jan 2024 00:00:00 +99999999999", "1 Jan 99999999 0:0:0", "", ",", "\0" * 40]
)
def test_a_wait_that_is_none_is_left_out(value: str) -> None:
    assert retry_after(value) is None


def judged(content: bytes, fields: Mapping[str, Any]) -> None:
    for headers in ({}, {"Content-Type": "text/html; charset=utf-16"}, {"Content-Encoding": "gzip"}):
        with suppress(SmsError):
            Judged.of(200, headers, content).judged(fields)


# -- secrets belong to their place -------------------------------------------------------------------------------------


SECRET_FIELDS: dict[str, Any] = {
    "url": "https://sms.example.com/bot123456:AAtokenAAtokenAA/send?key=URLKEY-1&to={phone}",
    "headers": {"X-Api-Key": "HEADER-2", "X-To": "{phone}"},
    "parameters": {"token": "PARAM-3", "to": "+{phone}"},
    "password": "PASSWORD-4",
}
SECRET_TEXTS = ("AAtokenAAtokenAA", "URLKEY-1", "HEADER-2", "PARAM-3", "PASSWORD-4")


def test_of_a_gateway_names_are_visible_and_secrets_are_neither_shown_nor_stored_in_clear(
    app: flask.Flask, tmp_path: Path
) -> None:
    store = open_store(current_queue().settings)
    store.save("main", SECRET_FIELDS)
    shown = store.censored(store.get("main"))
    assert shown["url"] == f"https://sms.example.com/{CENSORED}/send?key={CENSORED}&to={{phone}}"
    assert shown["headers"] == {"X-Api-Key": CENSORED, "X-To": "{phone}"}
    assert shown["parameters"] == {"token": CENSORED, "to": "+{phone}"}
    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert not any(text.encode() in on_disk for text in SECRET_TEXTS)


def test_what_comes_back_censored_keeps_the_secrets(app: flask.Flask) -> None:
    store = open_store(current_queue().settings)
    store.save("main", SECRET_FIELDS)
    before = store.get("main")
    shown = {name: value for name, value in store.censored(before).items() if name != "identifier"}
    store.save("main", {**shown, "headers": {**shown["headers"], "X-New": "NEW-5"}, "region": "DE"})
    after = store.get("main")
    assert after["headers"] == {**SECRET_FIELDS["headers"], "X-New": "NEW-5"}
    assert {**after, "headers": 0, "region": 0} == {**before, "headers": 0, "region": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://evil.example.net/send"},
        {"url": f"https://sms.example.com/elsewhere?key={CENSORED}"},
        {"url": f"https://evil.example.net/{CENSORED}/send?key={CENSORED}&to={{phone}}"},
        {"proxy": "http://evil.example.net:8080/"},
    ],
    ids=["another host", "another path", "another host, the token kept", "a proxy"],
)
def test_secrets_are_asked_for_anew_where_they_would_go_elsewhere(app: flask.Flask, change: dict[str, Any]) -> None:
    store = open_store(current_queue().settings)
    store.save("main", SECRET_FIELDS)
    for kept in ({}, {"password": CENSORED, "headers": {"X-Api-Key": CENSORED}}):
        with pytest.raises(DefinitionError) as error:
            store.save("main", {**kept, **change})
        faults = str(error.value)
        assert "password: expected the password anew, since " in faults
        assert "headers: expected the headers anew, since " in faults
        assert not any(text in faults for text in SECRET_TEXTS)
    anew = {"password": "p", "headers": {}, "parameters": {}, "url": "https://evil.example.net/send"}
    store.save("main", {**anew, **({} if "url" in change else change)})


def test_a_name_that_has_no_stored_secret_keeps_none(app: flask.Flask) -> None:
    with pytest.raises(DefinitionError, match="headers: X-Key: expected the secret, found __CENSORED__"):
        save("main", url="https://sms.example.com/", headers={"X-Key": CENSORED})


@pytest.mark.parametrize(
    ("values", "told", "refused"),
    [
        ({"url": "http://sms.example.com/"}, True, False),
        ({"url": "http://sms.example.com/", "parameters": {"to": "{phone}"}}, True, False),
        ({"url": "http://sms.example.com/", "username": "us"}, True, True),
        ({"url": "http://sms.example.com/", "headers": {"X-Key": "hunter2"}}, True, True),
        ({"url": "http://sms.example.com/?key=hunter2"}, True, True),
        ({"url": "http://known.example.com/", "password": "hunter2"}, False, False),
        ({"url": "http://KNOWN.example.com/", "password": "hunter2"}, False, False),
        ({"url": "https://sms.example.com/", "password": "hunter2"}, False, False),
        ({"url": "https://sms.example.com/", "proxy": "http://proxy.example.com:1"}, False, False),
        (
            {"url": "https://sms.example.com/", "proxy": "http://proxy.example.com:1", "proxy_username": "us"},
            True,
            True,
        ),
        (
            {"url": "https://sms.example.com/", "proxy": "http://proxy.example.com:1", "proxy_password": "hunter2"},
            True,
            True,
        ),
        ({"url": "https://sms.example.com/", "proxy": "http://[::1]:1", "proxy_password": "hunter2"}, False, False),
        (
            {"url": "https://sms.example.com/", "proxy": "https://proxy.example.com", "proxy_username": "us"},
            False,
            False,
        ),
        ({"url": "http://[::1]:1/", "password": "hunter2"}, False, False),
        ({"provider": "smpp", "host": "smpp.example.com", "password": "hunter2"}, True, True),
        ({"provider": "smpp", "host": "smpp.example.com", "password": "hunter2", "tls": "1"}, False, False),
        ({"provider": "smpp", "host": "localhost", "password": "hunter2"}, False, False),
    ],
)
def test_a_gateway_without_tls_is_told_and_with_a_login_refused(
    app: flask.Flask, values: dict[str, Any], told: bool, refused: bool
) -> None:
    settings = current_queue().settings
    settings._values["PI_JOB_QUEUE_SMS_LOGIN_WITHOUT_TLS"] = ("known.example.com",)
    if refused:
        with pytest.raises(DefinitionError, match=r"has no TLS|a login in clear") as error:
            open_store(settings).save("main", values)
        assert "hunter2" not in str(error.value) and not open_store(settings).list()
        # As by an older release, or before the setting was changed.
        hosts = ("sms.example.com", "smpp.example.com", "proxy.example.com")
        settings._values["PI_JOB_QUEUE_SMS_LOGIN_WITHOUT_TLS"] = hosts
    save("main", **values)
    settings._values["PI_JOB_QUEUE_SMS_LOGIN_WITHOUT_TLS"] = ("known.example.com",)
    (check,) = register_checks(current_queue())
    assert check.run().alarm == told


@pytest.mark.parametrize("headers", [{"X-Key": "a\r\nX-Evil: 1"}, {"X-Key\r\nX-Evil": "1"}, {"X Key": "1"}, {"": "1"}])
def test_a_header_that_would_be_two_is_refused_before_it_is_saved(app: flask.Flask, headers: dict[str, str]) -> None:
    with pytest.raises(DefinitionError, match="headers: expected"):
        save("main", url="https://sms.example.com/", headers=headers)


@pytest.mark.parametrize("text", ["AB12CD\r\nX-Evil: 1", "AB12CD\0"])
def test_a_text_begins_no_header_and_is_not_quoted(gateway: Gateway, text: str) -> None:
    save("main", url=gateway.url, method="POST", headers={"X-Text": "{otp}"}, parameters={"to": "{phone}"})
    with pytest.raises(FailJob, match=r"^the request can't be: Illegal header value$"):
        send_sms("main", PHONE, text)
    assert gateway.requests == []


def test_a_pattern_that_takes_much_memory_is_refused() -> None:
    assert "too large" in (pattern_fault(r"\pL{100}") or "")
