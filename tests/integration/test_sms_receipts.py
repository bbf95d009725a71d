"""Gateways tell of deliveries over HTTP; the instance tells it to whoever looks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import flask
import pytest
from integration.served import add_instance, make_app, queue_of, settings_of
from integration.visits import Visit
from sms_gateway import Answer, Gateway, always
from sms_providers import PASSWORD, PROVIDERS, SENDER, USERNAME

from pijobs.jobs import State
from pijobs.observe.instances import explained
from pijobs.observe.life import life
from pijobs.observe.lists import listing
from pijobs_sms.gateways import open_store
from pijobs_sms.presets import PRESETS
from pijobs_sms.receipts import Receipts
from pijobs_sms.send import send_sms

PHONE, TEXT = "+491701234567", "Your code is 739105"
URL = "/smsgateway/main/receipt"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[flask.Flask]:
    app = make_app(tmp_path, PLUGINS=("sms",))
    with Gateway() as gateway, app.app_context():
        save(app, url=gateway.url, parameters={"to": "{phone}"}, receipt_password="hunter2")
        app.extensions["gateway"] = gateway
        yield app


def save(app: flask.Flask, **values: Any) -> None:
    open_store(settings_of(app)).save("main", values)


def send(app: flask.Flask) -> str:
    """An SMS that the gateway took, and its id."""
    return send_sms("main", PHONE, TEXT, queue=queue_of(app)).id


def told(app: flask.Flask, instance: str) -> str | None:
    return Receipts.of(settings_of(app)).states([instance]).get(instance)


def test_a_delivery_is_told_of_the_instance_wherever_it_is_shown(app: flask.Flask) -> None:
    instance = add_instance(app, State.DONE, name="sms.send")
    answer = app.test_client().get(URL, query_string={"password": "hunter2", "id": instance, "status": "delivered"})
    assert (answer.status_code, answer.json and answer.json["result"]["value"]) == (200, 1)
    rows, _ = listing(queue_of(app), limit=10)
    assert [row["afterwards"] for row in rows] == [told(app, instance)]
    assert any("afterwards: delivered, told at 2" in line for line in life(explained(queue_of(app), instance)))
    visit = Visit(app)
    assert "delivered, told at" in visit.text(f"/jobs/{instance}") and "delivered, told at" in visit.text("/jobs")


def test_a_plugin_that_tells_nonsense_hides_no_list(app: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = add_instance(app, State.DONE, name="sms.send")
    answers = [("one", 5), ("two", {instance: 5}), ("three", None), ("four", {instance: "fine"}), ("five", [])]
    monkeypatch.setattr("pijobs.observe.instances.call_hook", lambda *_, **__: answers)
    assert [row["afterwards"] for row in listing(queue_of(app), limit=10)[0]] == ["fine"]


def test_what_is_not_final_says_nothing(app: flask.Flask) -> None:
    instance = send(app)
    for status in ("sent", "buffered", ""):
        app.test_client().post(URL, query_string={"password": "hunter2"}, data={"id": instance, "status": status})
    assert told(app, instance) is None
    app.test_client().post(URL, query_string={"password": "hunter2"}, data={"id": instance, "status": "<b>failed"})
    assert (told(app, instance) or "").endswith(": ?b?failed")


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=UTF-8", "application/x-www-form-urlencoded"])
def test_json_is_understood_whatever_its_type_says(app: flask.Flask, kind: str) -> None:
    instance = send(app)
    body = json.dumps({"id": instance, "status": "delivered"})
    app.test_client().post(URL, query_string={"password": "hunter2"}, data=body, content_type=kind)
    assert (told(app, instance) or "").startswith("delivered")


@pytest.mark.parametrize("password", ["", "wrong", "hunter"])
def test_without_the_password_nothing_is_told(app: flask.Flask, password: str) -> None:
    instance = send(app)
    query = {"password": password, "id": instance, "status": "delivered"}
    assert app.test_client().get(URL, query_string=query).status_code == 403
    assert app.test_client().get("/smsgateway/none/receipt", query_string=query).status_code == 403
    save(app, receipt_password="")
    assert app.test_client().get(URL, query_string={**query, "password": ""}).status_code == 403
    assert told(app, instance) is None


def test_the_password_may_be_a_basic_login(app: flask.Flask) -> None:
    instance = send(app)
    app.test_client().post(URL, auth=("us", "hunter2"), json={"id": instance, "status": "delivered"})
    assert (told(app, instance) or "").startswith("delivered")


def test_guesses_at_the_password_are_counted_by_address(app: flask.Flask) -> None:
    def ask(password: str, address: str) -> int:
        query = {"password": password, "id": "1", "status": "delivered"}
        return app.test_client().get(URL, query_string=query, environ_overrides={"REMOTE_ADDR": address}).status_code

    assert [ask("hunter2", "192.0.2.1") for _ in range(15)] == [200] * 15
    assert [ask(f"guess{number}", f"2001:db8::{number}") for number in range(12)] == [403] * 10 + [429] * 2
    assert ask("hunter2", "2001:db8::ff") == 429  # who guesses does not learn it
    assert ask("hunter2", "192.0.2.1") == 200  # and keeps nobody else out


def test_an_id_that_no_database_takes_ends_nothing(app: flask.Flask) -> None:
    body = '{"id": "\\ud800", "status": "delivered\\udfff"}'
    answer = app.test_client().post(
        URL, query_string={"password": "hunter2"}, data=body, content_type="application/json"
    )
    assert answer.status_code == 200
    gateway: Gateway = app.extensions["gateway"]
    gateway.answer = always(Answer(200, json.dumps({"ids": ["\ud800", *map(str, range(1000))]})))
    save(app, json_path="ids.0", success=".", receipt_expects="ids.*")
    assert send_sms("main", PHONE, TEXT, queue=queue_of(app)).state is State.DONE


@pytest.mark.parametrize("body", ["[", "[1, 2]", '"x"', "{}", '{"id": {"a": 1}, "status": null}', "[" * 100_000])
def test_a_body_that_tells_nothing(app: flask.Flask, body: str) -> None:
    answer = app.test_client().post(
        URL, query_string={"password": "hunter2"}, data=body, content_type="application/json"
    )
    assert (answer.status_code, answer.json and answer.json["result"]["value"]) == (200, 0)


#: What each provider sends by its public description, as parameters of the address, a form, or JSON.
RECEIPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "twilio": ("form", {"MessageSid": "SM1", "MessageStatus": "delivered", "AccountSid": "AC1"}),
    "vonage": ("json", {"message_uuid": "u", "status": "delivered", "client_ref": "ID", "channel": "sms"}),
    "messagebird": ("query", {"id": "e8077d80", "reference": "ID", "recipient": "49", "status": "delivered"}),
    "clicksend": ("form", {"message_id": "BF7AD270", "status_code": "201", "custom_string": "ID"}),
    "seven": ("json", {"data": {"msg_id": "77149", "status": "DELIVERED"}, "webhook_event": "dlr"}),
    "infobip": (
        "json", {"results": [{"messageId": "2250", "callbackData": "ID", "status": {"groupName": "DELIVERED"}}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECEIPTS)
def test_the_receipts_of_a_provider_are_understood_by_its_preset(app: flask.Flask, name: str) -> None:
    gateway: Gateway = app.extensions["gateway"]
    gateway.answer = lambda number: PROVIDERS[name](gateway.requests[-1])
    preset = {**PRESETS[name].values}
    preset["url"] = f"http://127.0.0.1:{gateway.port}/{preset['url'].split('/', 3)[3]}"
    login = {"username": USERNAME, "password": PASSWORD, "sender": SENDER}
    save(app, **preset, **login, receipt_url="https://otp.example.com", receipt_password="hunter2")
    instance = send(app)
    asked = gateway.requests[-1].form.get({"twilio": "StatusCallback", "messagebird": "reportUrl"}.get(name, ""))
    url = f"https://otp.example.com{URL}?password=hunter2&id={instance}" if asked else f"{URL}?password=hunter2"
    assert asked in (None, url)
    way, values = json.loads(json.dumps(RECEIPTS[name]).replace("ID", instance))
    parts = urlsplit(url)
    query = parts.query + "".join(f"&{name}={value}" for name, value in values.items() if way == "query")
    body = {} if way == "query" else {"data" if way == "form" else "json": values}
    answer = app.test_client().open(f"{parts.path}?{query}", method="GET" if way == "query" else "POST", **body)
    assert answer.json is not None and answer.json["result"]["value"] == 1
    assert (told(app, instance) or "").startswith("delivered")
