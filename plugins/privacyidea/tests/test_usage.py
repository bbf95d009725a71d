"""Logins, challenges and messages are counted off the request, and administrators of privacyIDEA read it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import flask
import pytest
from challenges import PATIENCE, Visit, arrives_and_signs_in, challenge
from preloaded import Programs
from quick_instance import RELEASE, made
from redis_on_disk import Redis
from services import wait_until
from sms_gateway import Gateway

from pijobs import InstanceEvent
from pijobs_mail.sink.server import Sink
from pijobs_privacyidea import HueyQueue, tokens, usage
from pijobs_privacyidea.instance import ADMIN, Instance

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

HTTP = "privacyidea.lib.smsprovider.HttpSMSProvider.HttpSMSProvider"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, redis_on_disk: Redis, programs: Programs) -> Iterator[Instance]:
    if RELEASE < (3, 13):
        pytest.skip("statistics need SQLAlchemy 2, so privacyIDEA 3.13")
    here = tmp_path_factory.mktemp("usage")
    settings = {
        "PI_AUDIT_MODULE": "pijobs_privacyidea.statistics",
        "PI_JOB_QUEUE_PRIVACYIDEA_APPLICATIONS": {"vpn": ["127.0.0.0/8"]},
        "PI_JOB_QUEUE_PRIVACYIDEA_SECOND_CHANNEL": {"mail": "gate"},
    }
    with made(here, programs, redis_on_disk.url, **settings) as instance:
        yield instance


def test_logins_challenges_and_mails_are_counted_and_shown_to_administrators(instance: Instance, sink: Sink) -> None:
    instance.set_smtp_server("otp", sink.port, queued=True)
    with instance.working():
        transaction = challenge(instance)
        arrives_and_signs_in(instance, sink, transaction)
        assert not instance.sign_in("alice", "000000", transaction)
        wait_until(lambda: "privacyidea.mail" in counted(instance), PATIENCE, what="the end of the mail")
    by = {"realm": "demo", "token_type": "email", "application": "vpn"}
    found = counted(instance)
    assert found["privacyidea.challenge"] == [{**by, "result": "triggered"}]
    assert {**by, "result": "accepted"} in found["privacyidea.login"]
    assert found["privacyidea.mail"] == [{**by, "result": "done"}]
    visit = Visit(instance)
    visit.sign_in(ADMIN, instance.password)
    assert "SMTP servers" not in visit.ask("/jobqueue/pages/statistics/")[1]
    assert ",privacyidea.mail,vpn,,,demo,done,email,1,1" in visit.ask("/jobqueue/pages/statistics/csv")[1]


def test_an_sms_in_place_of_a_refused_mail_is_counted_as_what_it_is(instance: Instance, sink: Sink) -> None:
    sink.fail_at("RCPT", "550 5.1.1 no such user")
    instance.set_smtp_server("otp", sink.port, queued=True)
    with Gateway() as gateway, instance.working():
        options = {"URL": gateway.url, "HTTP_METHOD": "GET", "to": "{phone}", "text": "{otp}"}
        instance.ask("/smsgateway", name="gate", module=HTTP, **{f"option.{name}": options[name] for name in options})
        challenge(instance)
        gateway.wait_for(1, PATIENCE)
        wait_until(lambda: "privacyidea.sms" in counted(instance), PATIENCE, what="the end of the SMS")
    by = {"realm": "demo", "token_type": "email", "application": "vpn"}
    found = counted(instance)
    assert found["privacyidea.sms"] == [{**by, "result": "done"}]
    assert {**by, "result": "dead"} in found["privacyidea.mail"]


def counted(instance: Instance) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in instance.ask("/jobqueue/statistics?per=day", "GET")["result"]["value"]["rows"]:
        found.setdefault(row["name"], []).append(row["tags"])
    return found


@pytest.mark.parametrize(
    ("agent", "client", "found"),
    [
        ("privacyidea-cp/3.5 Windows", "192.0.2.1", "privacyidea-cp"), ("Mozilla/5.0 (X11)", "192.0.2.1", "browser"),
        ("Roundcube/1.6", "192.0.2.1", "mail"), ("privacyidea-cp/3.5", "10.1.0.9", "vpn"), ("Stranger/1", "", "other"),
    ],
)  # fmt: skip
def test_a_request_is_counted_by_what_it_comes_from(agent: str, client: str, found: str) -> None:
    named = {"vpn": ["10.1.0.0/24"], "mail": ["Roundcube"]}
    app = flask.Flask("privacyidea")
    queue = HueyQueue({"url": "memory://", "keys": ["k"], "privacyidea_applications": named})
    app.config["_app_local_store"] = {"job_queue": queue}
    with app.app_context():
        assert usage.application(agent, client) == found


@pytest.mark.skipif(RELEASE < (3, 14), reason="before 3.14 privacyIDEA gives clients no names")
def test_clients_have_the_names_that_privacyidea_gives_them() -> None:
    theirs = importlib.import_module("privacyidea.lib.integrations").AGENT_TO_INTEGRATION
    assert {agent: usage._KNOWN.get(agent) for agent in theirs} == theirs


@pytest.mark.parametrize(
    ("label", "notes", "found"),
    [
        ("SMS as second channel, token T (realm demo, type email, by vpn)", {}, "privacyidea.sms"),
        ("mail as second channel, token T (realm demo, type sms, by vpn)", {"first": "unsure"}, "privacyidea.mail"),
        ("SMS as second channel, token T", {"first": "arrived"}, None),
    ],
)  # fmt: skip
def test_a_second_message_is_counted_unless_the_first_one_arrived(
    label: str, notes: dict[str, str], found: str | None
) -> None:
    record = SimpleNamespace(label=label, history=[json.dumps({"event": "done", "notes": notes})])
    queue: Any = SimpleNamespace(places=SimpleNamespace(find=lambda instance: (None, record)))
    event = InstanceEvent("1", "privacyidea.second_channel", "sms:gate", "done")
    assert [name for name, _ in usage.count_end(queue, event)] == ([found] if found else [])


def test_a_label_tells_people_and_statistics() -> None:
    about = tokens.Circumstances("demo", "email", "vpn")
    label = tokens.labelled("mail to a***@example.com", "PIEM1", about)
    assert label == "mail to a***@example.com, token PIEM1 (realm demo, type email, by vpn)"
    assert (tokens.serial_in(label), tokens.circumstances_in(label)) == ("PIEM1", about)
    assert tokens.circumstances_in("mail to a***@example.com, token PIEM1") == tokens.Circumstances()
