"""SMS and push messages through a queued gateway, which wraps one that sends."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from challenges import PATIENCE, PIN, becomes, challenge, holds, jobs, pijobs
from fcm import Fcm
from phone import Phone
from quick_instance import RELEASE
from services import wait_until
from sms_gateway import Answer, Gateway, always, first

from pijobs_privacyidea.instance import Instance, InstanceFailed

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

HTTP = "privacyidea.lib.smsprovider.HttpSMSProvider.HttpSMSProvider"
FIREBASE = "privacyidea.lib.smsprovider.FirebaseProvider.FirebaseProvider"
NUMBER = "+491701234567"
#: What the HTTP gateway wants to be told before it takes push messages.
PUSH = {"HTTP_METHOD": "POST", "SEND_DATA_AS_JSON": "yes", "ALLOW_PUSH": "yes", "text": "{message}"}


def add_gateway(instance: Instance, name: str, gateway: Gateway, **options: str) -> None:
    given = {"URL": gateway.url, "HTTP_METHOD": "GET", "to": "{phone}", "text": "{otp}", **options}
    instance.ask("/smsgateway", name=name, module=HTTP, **{f"option.{key}": each for key, each in given.items()})


def enrol_at(instance: Instance, gateway: str) -> None:
    """By which gateway the push tokens that are enrolled now get their messages."""
    action = f"push_firebase_configuration={gateway}, push_registration_url={instance.url}/ttype/push"
    instance.ask("/policy/push", scope="enrollment", action=action)


@pytest.fixture(scope="module")
def sms_token(installed: Instance) -> None:
    """bob's; its gateway is the queued one."""
    with Gateway() as gateway:
        for name in ("main", "second"):
            add_gateway(installed, name, gateway)
    made = pijobs(installed, "privacyidea", "sms-gateway", "queued", "--wraps", "main", "--failover", "second")
    assert made.returncode == 0, made.stderr
    assert "gateway queued leaves its messages to the queue; main sends them" in made.stdout
    if RELEASE >= (3, 14):
        line = "PI_SMS_PROVIDER_MODULES = ['pijobs_privacyidea.sms.QueuedSMSProvider']"
        assert f"\n{line}\n" in installed.config.read_text()
    installed.ask("/system/setConfig", **{"sms.identifier": "queued"})
    installed.ask("/token/init", type="sms", user="bob", realm="demo", pin=PIN, phone=NUMBER)


def sign_in_by(instance: Instance, gateway: Gateway, transaction: str) -> bool:
    request = gateway.wait_for(1, PATIENCE)[-1]
    assert request.query["to"] == NUMBER
    otp = re.search(r"\d{6}", request.query["text"])
    assert otp is not None
    return instance.sign_in("bob", otp[0], transaction)


def test_an_sms_goes_by_the_worker_and_signs_in(instance: Instance, sms_token: None) -> None:
    with Gateway() as gateway:
        add_gateway(instance, "main", gateway)
        transaction = challenge(instance, "bob")
        assert gateway.requests == []
        with instance.working():
            assert sign_in_by(instance, gateway, transaction)
            record = becomes(instance, "done")
    found = pijobs(instance, "jobs", "find", "Bob")
    assert record["id"] in found.stdout and ": Sent at " in found.stdout
    assert NUMBER[3:] not in str(record) + found.stdout + (instance.here / "queue.log").read_text()


def test_an_sms_goes_to_the_second_gateway_when_the_first_is_out_of_order(instance: Instance, sms_token: None) -> None:
    with Gateway(always(Answer(503))) as broken, Gateway() as gateway:
        add_gateway(instance, "main", broken)
        add_gateway(instance, "second", gateway)
        with instance.working():
            assert sign_in_by(instance, gateway, challenge(instance, "bob"))
            assert len(broken.requests) == 1
            # Its breaker opens after some failures: it is not asked each time.
            for sent in range(2, 12):
                challenge(instance, "bob")
                gateway.wait_for(sent, PATIENCE)
        assert len(broken.requests) < 10


def test_an_sms_is_tried_again_after_a_failure_of_the_gateway(instance: Instance, sms_token: None) -> None:
    with Gateway(first(Answer(500), Answer(429))) as gateway, Gateway(always(Answer(503))) as second:
        add_gateway(instance, "main", gateway)
        add_gateway(instance, "second", second)
        with instance.working():
            transaction = challenge(instance, "bob")
            gateway.wait_for(3, PATIENCE)
            assert sign_in_by(instance, gateway, transaction)


def test_a_refused_sms_is_a_dead_letter_that_tells_neither_number_nor_otp(instance: Instance, sms_token: None) -> None:
    with Gateway(always(Answer(422, f"no {NUMBER}"))) as gateway:
        add_gateway(instance, "main", gateway)
        add_gateway(instance, "second", gateway)
        with instance.working():
            challenge(instance, "bob")
            record = becomes(instance, "dead")
        otp = re.findall(r"\d{6}", gateway.requests[0].query["text"])[0]
    assert record["reason"] == "gateway 'main' refused the message (422)"
    log = (instance.here / "queue.log").read_text()
    assert not holds(log, otp) and NUMBER[3:] not in log


def test_an_sms_that_is_too_late_is_not_sent(instance: Instance, sms_token: None) -> None:
    with Gateway() as gateway:
        add_gateway(instance, "main", gateway)
        instance.ask("/system/setConfig", **{"sms.providerTimeout": 1})
        try:
            began = time.monotonic()
            challenge(instance, "bob")
            # A worker that starts at once would still be in time.
            wait_until(lambda: time.monotonic() - began > 1.5, what="the end of the second")
            with instance.working():
                becomes(instance, "expired")
        finally:
            instance.ask("/system/setConfig", **{"sms.providerTimeout": 300})
        assert gateway.requests == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["queued", "--wraps", "nobody"], "expected the name of a gateway, found 'nobody', which is none"),
        (["other", "--wraps", "queued"], "expected a gateway that sends, found 'queued', which is queued itself"),
        (["main", "--wraps", "second"], "expected a new name, found 'main', which is a gateway that sends"),
        (["other", "--wraps", "main", "--failover", "main"], "expected another gateway than WRAPS, found the same"),
    ],
)
def test_a_gateway_that_cannot_be_meant_is_refused(
    instance: Instance, sms_token: None, arguments: list[str], told: str
) -> None:
    done = pijobs(instance, "privacyidea", "sms-gateway", *arguments)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.skipif(RELEASE < (3, 14), reason="before 3.14 a push token takes privacyIDEA's Firebase class only")
@pytest.mark.parametrize("provider", ["http", "firebase"])
def test_a_push_message_goes_by_the_worker_and_signs_in(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    with Gateway() as gateway, Fcm(tmp_path) as fcm:
        if provider == "http":
            add_gateway(instance, "http", gateway, **PUSH)
        else:
            # The worker speaks to a machine that calls itself fcm.googleapis.com.
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(fcm.ca_file))
            options = {"option.JSON config file": str(fcm.account), "option.httpsproxy": fcm.url}
            instance.ask("/smsgateway", name="firebase", module=FIREBASE, **options)
        made = pijobs(instance, "privacyidea", "sms-gateway", f"queued-{provider}", "--wraps", provider)
        assert made.returncode == 0, made.stderr
        enrol_at(instance, f"queued-{provider}")
        phone = Phone(instance, device=f"device-{provider}")
        phone.enrol("carol", PIN)
        transaction = challenge(instance, "carol")
        with instance.working():
            wait_until(lambda: bool(gateway.requests or fcm.messages), PATIENCE, what="the push message")
            assert becomes(instance, "done")["name"] == "privacyidea.sms"
        if provider == "http":
            sent = json.loads(gateway.requests[0].body)
            device, payload = sent["to"], sent["text"]
        else:
            device, payload = fcm.messages[0]["token"], fcm.messages[0]["data"]
        assert device == phone.device
        assert not instance.sign_in("carol", "", transaction)
        phone.confirm(payload)
        assert instance.sign_in("carol", "", transaction)
        instance.ask(f"/token/{phone.serial}", "DELETE")


@pytest.mark.skipif(RELEASE < (3, 14), reason="before 3.14 a push token takes privacyIDEA's Firebase class only")
def test_a_gateway_takes_no_push_messages_when_the_wrapped_one_takes_none(instance: Instance, sms_token: None) -> None:
    earlier = {job["id"] for job in jobs(instance)}
    with Gateway() as gateway:
        add_gateway(instance, "http", gateway, **PUSH)
        made = pijobs(instance, "privacyidea", "sms-gateway", "queued-http", "--wraps", "http")
        assert made.returncode == 0, made.stderr
        enrol_at(instance, "queued-http")
        phone = Phone(instance, device="device")
        phone.enrol("carol", PIN)
        add_gateway(instance, "http", gateway, **{**PUSH, "ALLOW_PUSH": "no"})
        with pytest.raises(InstanceFailed, match="does not support push messages"):
            challenge(instance, "carol")
        with pytest.raises(InstanceFailed, match="incompatible push gateway"):
            Phone(instance, device="another").enrol("carol", PIN)
        assert ({job["id"] for job in jobs(instance)}, gateway.requests) == (earlier, [])
    for token in instance.ask("/token/?user=carol&realm=demo", "GET")["result"]["value"]["tokens"]:
        instance.ask(f"/token/{token['serial']}", "DELETE")
