"""SMS through real workers and a real gateway on HTTP that fails, hangs and lies; and limits that hold."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import pytest
from processes import run_at_once
from sms_gateway import Answer, Gateway, always, first

from pijobs import State
from pijobs_sms.gateways import open_store
from pijobs_sms.send import send_sms

from .conftest import MakeSite
from .site import Site

PHONE, TEXT = "+491701234567", "Your code is 739105"


@pytest.fixture
def sms_site(make_site: MakeSite) -> Site:
    """Core and SMS plugin, nothing else."""
    return make_site(PLUGINS=("sms",))


def save(site: Site, identifier: str = "main", **values: Any) -> None:
    defaults = {"method": "POST", "parameters": {"to": "{phone}", "text": "{otp}"}, "enqueue_job": True}
    open_store(site.queue.settings).save(identifier, {**defaults, **values})


def send(site: Site) -> str:
    return send_sms("main", PHONE, TEXT, queue=site.queue).id


@pytest.mark.parametrize(
    "trouble", [Answer(429, retry_after="1"), Answer(500), Answer(hang=True)], ids=["429", "500", "time-out"]
)
def test_an_sms_is_tried_again_when_the_gateway_is_in_trouble(sms_site: Site, trouble: Answer) -> None:
    with Gateway(first(trouble)) as gateway:
        save(sms_site, url=gateway.url, timeout=0.5)
        sms_site.start_worker()
        instance = send(sms_site)
        assert sms_site.wait_for(instance).state is State.DONE
        assert [request.form for request in gateway.requests] == [{"to": PHONE, "text": TEXT}] * 2


@pytest.mark.parametrize(
    "answer", [Answer(400, body=f"no such number {PHONE}"), Answer(200, body=f"FAILED for {PHONE}")], ids=["400", "lie"]
)
def test_a_refusal_and_a_lie_end_as_a_dead_letter_without_the_number(sms_site: Site, answer: Answer) -> None:
    with Gateway(always(answer)) as gateway:
        save(sms_site, url=gateway.url, failure="FAILED")
        sms_site.start_worker()
        record = sms_site.wait_for(send(sms_site))
        assert record.state is State.DEAD and str(answer.status) in str(record.reason)
        assert len(gateway.requests) == 1
    told = sms_site.run("jobs", "show", record.id).stdout
    assert "SMS to +49***67" in told
    # Whoever looks for the cause needs to know which gateway.
    assert "attempt 1: gateway main: the " in sms_site.output()
    for text in (told, sms_site.output(), str(record.reason)):
        assert "1234567" not in text and "739105" not in text


def test_the_second_gateway_takes_over_in_the_worker(sms_site: Site) -> None:
    with Gateway(always(Answer(503))) as main, Gateway() as second:
        save(sms_site, url=main.url, fallback="second")
        save(sms_site, "second", url=second.url)
        sms_site.start_worker()
        ids = [send(sms_site) for _ in range(5)]
        assert {sms_site.wait_for(instance).state for instance in ids} == {State.DONE}
        assert len(second.requests) == 5


def test_a_limit_holds_over_several_workers(sms_site: Site) -> None:
    with Gateway() as gateway:
        save(sms_site, url=gateway.url, per_number=20)
        ids = [send(sms_site) for _ in range(100)]
        for _ in range(2):
            sms_site.start_worker("-w", "8")
        states = [sms_site.wait_for(instance, timeout=100).state for instance in ids]
        assert (states.count(State.DONE), states.count(State.DEAD), len(gateway.requests)) == (20, 80, 20)


CALLER = """
import logging, sys, threading
from pathlib import Path
from pijobs import DestinationDown, FailJob
from pijobs.errors import DatabaseError
from pijobs.factory import build
from pijobs.settings import read_config
from pijobs_sms.send import send_sms

logging.disable()  # a busy storage, and limits that were reached
config, phone, result = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
queue, answers = build(read_config(config), directory=config.parent).queue, []

def call():
    try:
        answers.append(send_sms("main", phone, "x", queue=queue).state.value)
    except FailJob as error:
        answers.append("limited" if "at most 15 SMS" in str(error) else str(error))
    except (DatabaseError, DestinationDown):
        answers.append("uncounted")  # a database that is too busy: not counted, not sent

print("ready", flush=True)
sys.stdin.read()
threads = [threading.Thread(target=call) for _ in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
result.write_text(" ".join(answers))
"""


def call_at_once(site: Site) -> list[str]:
    """80 calls in four processes, and what each got."""
    results = [site.folder / f"result{number}" for number in range(4)]
    run_at_once(*([CALLER, str(site.config), PHONE, str(result)] for result in results))
    return " ".join(result.read_text() for result in results).split()


def test_many_calls_at_once_in_four_processes_send_exactly_the_limit(sms_site: Site) -> None:
    with Gateway() as gateway:
        save(sms_site, url=gateway.url, per_number=15, per_hour=0, enqueue_job=False)
        answers = call_at_once(sms_site)
        assert (answers.count("done"), len(gateway.requests)) == (15, 15)
        assert answers.count("limited") + answers.count("uncounted") == 65
        assert answers.count("limited")


def test_many_queued_at_once_by_four_processes_send_exactly_the_limit(make_site: MakeSite) -> None:
    # What a storage that is too busy does not take in time is sent in the request; the limit is the same one.
    site = make_site(PLUGINS=("sms",), JOBS={"sms.send": {"expires": 600}}, ENQUEUE_TIMEOUT=10)
    with Gateway() as gateway:
        save(site, url=gateway.url, per_number=0, per_hour=15)
        answers = call_at_once(site)
        assert len(answers) == 80 and "queued" in answers
        for _ in range(2):
            site.start_worker("-w", "4")
        ends = site.wait_all_ended("sms.send", 100)
        assert len(gateway.requests) == 15
        # What ended in the request is recorded, too, the newest of it.
        assert 15 - answers.count("done") <= ends.get(State.DONE, 0) <= 15
        assert answers.count("queued") <= sum(ends.values()) <= 80


STRANGER = """
from pathlib import Path
from pijobs import hookimpl
from pijobs.definitions import Field
from pijobs_sms.provider import Provider

def send(ctx, gateway, phone, text):
    ctx.check()
    Path(gateway["file"]).write_text(f"{phone} {text}")

@hookimpl
def register_sms_providers(settings):
    return [Provider("file", [Field("file", required=True)], send)]
"""


def test_a_strangers_provider_sends_in_the_worker(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "stranger"
    place.mkdir()
    name = f"a_stranger_{uuid.uuid4().hex}"
    (place / f"{name}.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(place)
    site = make_site(PLUGINS=("sms", name))
    site.environment["PYTHONPATH"] = os.pathsep.join([site.environment["PYTHONPATH"], str(place)])
    sent = tmp_path / "sent"
    open_store(site.queue.settings).save("main", {"provider": "file", "file": str(sent), "enqueue_job": True})
    site.start_worker()
    assert site.wait_for(send(site)).state is State.DONE
    assert sent.read_text() == f"{PHONE} {TEXT}"


def test_the_routes_save_show_test_and_delete_a_gateway(sms_site: Site) -> None:
    with Gateway() as gateway:
        web = sms_site.start_server()
        parameters = {"to": "{phone}", "text": "{otp}"}
        web.call("POST", "/smsgateway/main?method=POST", url=gateway.url, parameters=parameters, password="hunter2")
        shown = web.call("GET", "/smsgateway/")["main"]
        assert (shown["password"], shown["parameters"], shown["per_number"]) == ("__CENSORED__", parameters, 10)
        web.call("POST", "/smsgateway/send_test_sms", identifier="main", phone=PHONE)
        assert "SMS gateway main works" in gateway.requests[0].form["text"]
        gateway.answer = always(Answer(400))
        status, answer = web.ask("POST", "/smsgateway/send_test_sms", identifier="main", phone=PHONE)
        assert status == 502 and "the SMS could not be sent: the gateway refused: 400" in str(answer)
        assert web.ask("POST", "/smsgateway/send_test_sms", identifier="main", phone="12")[0] == 400
        assert web.ask("POST", "/smsgateway/send_test_sms", identifier="none", phone=PHONE)[0] == 404
        web.call("DELETE", "/smsgateway/main")
        assert web.call("GET", "/smsgateway/") == {}
