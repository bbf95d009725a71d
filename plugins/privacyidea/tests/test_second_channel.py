"""An OTP that a mail does not bring comes by SMS, and the other way round; failures stand in privacyIDEA's audit."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import flask
import pytest
from challenges import PATIENCE, PIN, challenge, otp_of, pijobs
from preloaded import Programs
from quick_instance import made
from redis_on_disk import Redis
from services import wait_until
from sms_gateway import Answer, Gateway, always

from pijobs import FailJob, JobContext, State
from pijobs_mail.sink.server import Sink
from pijobs_privacyidea import HueyQueue, definitions, mail, queue, second_channel, tokens
from pijobs_privacyidea.instance import MOBILE, Instance
from pijobs_privacyidea.origin import Origin

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

HTTP = "privacyidea.lib.smsprovider.HttpSMSProvider.HttpSMSProvider"
CHANNELS = {"mail": "gate", "sms": "otp"}
CONFIG = {"id": 1, "identifier": "otp", "server": "localhost", "port": 25, "sender": "pi@example.com"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, redis_on_disk: Redis, programs: Programs) -> Iterator[Instance]:
    here = tmp_path_factory.mktemp("second")
    with made(here, programs, redis_on_disk.url, PI_JOB_QUEUE_PRIVACYIDEA_SECOND_CHANNEL=CHANNELS) as instance:
        yield instance


def test_an_otp_that_no_mail_brings_comes_by_sms_and_the_failure_stands_in_the_audit(
    instance: Instance, sink: Sink
) -> None:
    sink.fail_at("RCPT", "550 5.1.1 no such user")
    instance.set_smtp_server("otp", sink.port, queued=True)
    with Gateway() as gateway, instance.working():
        options = {"URL": gateway.url, "HTTP_METHOD": "GET", "to": "{phone}", "text": "{otp}"}
        given = {f"option.{name}": value for name, value in options.items()}
        instance.ask("/smsgateway", name="gate", module=HTTP, **given)
        transaction = challenge(instance)
        request = gateway.wait_for(1, PATIENCE)[-1]
        assert request.query["to"] == MOBILE + "0"
        otp = re.search(r"\d{6}", request.query["text"])
        assert otp is not None and instance.sign_in("alice", otp[0], transaction)
        wait_until(lambda: bool(undelivered(instance)), PATIENCE, what="the audit")
    [row] = undelivered(instance)
    assert (row["user"], row["realm"], row["token_type"], row["success"]) == ("alice", "demo", "email", 0)
    assert row["serial"].startswith("PIEM") and "550" in row["info"]


def test_an_otp_that_no_sms_brings_comes_by_mail(instance: Instance, sink: Sink) -> None:
    instance.set_smtp_server("otp", sink.port, queued=True)
    with Gateway(always(Answer(422))) as gateway, instance.working():
        options = {"URL": gateway.url, "HTTP_METHOD": "GET", "to": "{phone}", "text": "{otp}"}
        given = {f"option.{name}": value for name, value in options.items()}
        instance.ask("/smsgateway", name="sends", module=HTTP, **given)
        assert pijobs(instance, "privacyidea", "sms-gateway", "queued", "--wraps", "sends").returncode == 0
        instance.ask("/system/setConfig", **{"sms.identifier": "queued"})
        instance.ask("/token/init", type="sms", user="bob", realm="demo", pin=PIN, phone=MOBILE + "1")
        transaction = challenge(instance, "bob")
        (mail,) = sink.wait_for(1, PATIENCE)
        assert mail.recipients == ("bob@example.com",) and len(gateway.requests) == 1
        assert instance.sign_in("bob", otp_of(mail), transaction)


def undelivered(instance: Instance) -> list[dict[str, Any]]:
    found = instance.ask("/audit/?action=*not+delivered*", "GET")
    rows: list[dict[str, Any]] = found["result"]["value"]["auditdata"]
    return rows


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[HueyQueue]:
    """A queue whose calls come from the e-mail token PIEM1, in privacyIDEA's app."""
    sent_by = Origin("otp", "email.validtime", "PIEM1")
    for module in (mail, queue):
        monkeypatch.setattr(module, "origin", lambda: sent_by)
    monkeypatch.setattr(definitions, "configured_seconds", lambda name, default: 100.0)
    monkeypatch.setattr(queue, "configured_seconds", lambda name, default: 100.0)
    found = HueyQueue({"url": "memory://", "keys": ["k"], "privacyidea_second_channel": CHANNELS})
    app = flask.Flask("privacyidea")
    app.config["_app_local_store"] = {"job_queue": found}
    with app.app_context():
        yield found


def waiting(taken: HueyQueue) -> dict[str, tuple[State, float]]:
    """By their jobs: state, and seconds until they are due."""
    assert taken.storage is not None
    now = taken.storage.now()
    pages = [taken.storage.page(state, limit=10) for state in (State.QUEUED, State.SCHEDULED)]
    return {one.name: (one.state, round((one.due - now) / 1000, -1)) for page in pages for one in page.records}


def test_the_second_message_waits_for_half_of_the_validity(taken: HueyQueue) -> None:
    taken.enqueue(mail.NAME, (CONFIG, "alice@example.com", "code", "123456", None, None, "plain"), {})
    assert waiting(taken) == {mail.NAME: (State.QUEUED, 0), second_channel.NAME: (State.SCHEDULED, 50)}
    taken.enqueue(mail.NAME, (CONFIG, "alice@example.com", "code", "654321", None, None, "plain"), {})
    assert len(waiting(taken)) == 2  # the newer OTP takes the place of both


def test_for_a_user_without_address_it_goes_at_once(taken: HueyQueue) -> None:
    taken.enqueue(mail.NAME, (CONFIG, None, "code", "<p>Code: <b>123456</b></p>", None, None, "html"), {})
    assert waiting(taken) == {second_channel.NAME: (State.QUEUED, 0)}


def test_what_is_refused_for_good_has_it_sent_at_once(taken: HueyQueue) -> None:
    taken.enqueue(mail.NAME, (CONFIG, "alice@example.com", "code", "123456", None, None, "plain"), {})
    with pytest.raises(FailJob), second_channel.when_refused(context(taken), "PIEM1", "123456"):
        raise FailJob("550")
    assert waiting(taken)[second_channel.NAME] == (State.QUEUED, 0)


def test_nothing_is_sent_after_a_message_that_arrived(taken: HueyQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_channel, "owner_of", lambda serial: None)
    handle = taken.enqueue(mail.NAME, (CONFIG, "alice@example.com", "code", "1", None, None, "plain"), {})
    with pytest.raises(FailJob, match="no mobile number"):
        second_channel.send_second(context(taken), handle.id, "mail", "gate", "PIEM1", "1")
    taken.cancel(handle.id)
    taken.remove(handle.id)
    second_channel.send_second(context(taken), handle.id, "mail", "gate", "PIEM1", "1")


def context(taken: HueyQueue) -> JobContext:
    return JobContext(
        id="0af3c1", name=mail.NAME, attempt=1, deadline=time.time() + 60, settings=taken.settings, now=time.time,
        count=lambda *_: None, log=logging.LoggerAdapter(logging.getLogger("test"), {}),
    )  # fmt: skip


def test_without_the_setting_there_is_one_message(taken: HueyQueue) -> None:
    alone = HueyQueue({"url": "memory://", "keys": ["k"]})
    one = alone.enqueue(mail.NAME, (CONFIG, "alice@example.com", "code", "123456", None, None, "plain"), {})
    assert list(waiting(alone)) == [mail.NAME]
    assert alone.storage is not None
    record, body = alone.storage.get(one.id), alone.storage.body(one.id)
    assert body is not None and tokens.serial_in(record.label) == "PIEM1"
    # Release 0.1.0 runs it, too: its job has no such argument.
    assert "token" not in alone.codec().decode(record.envelope, body).kwargs


def test_what_the_second_message_says() -> None:
    assert second_channel.text_of("your code: 1") == "your code: 1"
    assert second_channel.text_of(None, "<p>Code:\n <b>1&amp;2</b></p>") == "Code: 1&2"
    assert second_channel.text_of({"nonce": "of a push message"}) is None


def test_a_message_is_for_the_user_of_the_request_or_else_the_owner_of_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "owner_of", lambda serial: SimpleNamespace(login="bob"))
    with flask.Flask("privacyidea").test_request_context():
        assert tokens.login_for(None) is None
        flask.request.User = SimpleNamespace(login="")  # type: ignore[attr-defined]
        assert tokens.login_for("PIEM1") == "bob"
        flask.request.User = SimpleNamespace(login="alice")  # type: ignore[attr-defined]
        assert tokens.login_for("PIEM1") == "alice"


def test_a_label_names_the_token() -> None:
    assert tokens.serial_in(tokens.labelled("mail to a***@example.com", "PIEM1")) == "PIEM1"
    assert tokens.serial_in("mail to a***@example.com") is None
