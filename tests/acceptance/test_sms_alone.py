"""Core and SMS plugin in an environment with nothing else: commands, routes, a gateway that fails, hangs and lies."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from environments import make_environment
from services import wait_until
from sms_gateway import Answer, Gateway, first

from .conftest import MakeSite
from .site import Site
from .web import Web

PHONE = "+491701234567"
#: Seconds that a gateway has: more than a busy machine takes, and less for those that never answer.
TIMEOUT, SHORT = 15, 1


@dataclass(frozen=True)
class Case:
    """A gateway's behaviour; what the answer to a test in the request tells (empty: it went), and how a job ends."""

    answers: tuple[Answer, ...]
    told: str = ""
    ends: str = "done"
    #: Requests that the queued SMS takes.
    requests: int = 2
    timeout: int = TIMEOUT


HUGE = "OK " + "x" * 100 * 2**20
CASES = {
    "good": Case((Answer(),), requests=1),
    "huge": Case((Answer(body=HUGE),), "can't be read: 200"),
    "too-many": Case((Answer(429, retry_after="1"),), "slow down: 429"),
    "failing": Case((Answer(500),), "the gateway failed: 500"),
    "hanging": Case((Answer(hang=True),), "no answer from 127.0.0.1", timeout=SHORT),
    "dripping": Case(
        (Answer(raw=b"HTTP/1.1 200 OK\r\n" + b"X" * 1000, drip=0.1),), "no answer from 127.0.0.1", timeout=SHORT
    ),
    "half": Case((Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nOK"),), "broke off"),
    "garbage": Case((Answer(raw=b"\x00\xffSSH-2.0\r\n\r\n"),), "broke off"),
    "lying": Case((Answer(body=f"FAILED for {PHONE}"),) * 9, "the pattern of failures: 200", "dead", 1),
    "elsewhere": Case((Answer(302, location="/else"),) * 9, "takes nothing from us: 302", "dead", 1),
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with core and SMS plugin."""
    return make_environment(tmp_path_factory.mktemp("alone"), "pijobs", "pijobs-sms")


@pytest.fixture
def alone(make_site: MakeSite, python: Path) -> Site:
    site = make_site(PLUGINS=("sms",))
    site.python = str(python)
    del site.environment["PYTHONPATH"]
    return site


def test_only_the_plugin_is_there(alone: Site) -> None:
    listed = alone.run("plugins")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "sms: loaded (pijobs-sms" in listed.stdout and "mail" not in listed.stdout
    assert alone.run("config", "check").returncode in (0, 3)  # 3 is for a storage that is away


def test_an_sms_goes_direct_and_queued_whatever_the_gateway_does(alone: Site) -> None:
    with ExitStack() as stack:
        gateways = {name: stack.enter_context(Gateway(first(*case.answers))) for name, case in CASES.items()}
        web = alone.start_server()
        for name, gateway in gateways.items():
            save(web, name, gateway, CASES[name].timeout, enqueue_job=False)
            began = time.monotonic()
            status, answer = web.ask("POST", "/smsgateway/send_test_sms", identifier=name, phone=PHONE)
            assert time.monotonic() - began < TIMEOUT, name
            assert status == (502 if CASES[name].told else 200), (name, answer)
            assert CASES[name].told in str(answer) and "1234567" not in str(answer)
            assert [request.path for request in gateway.requests] == ["/send"]
        for name, gateway in gateways.items():
            gateway.requests.clear()
            save(web, name, gateway, CASES[name].timeout, enqueue_job=True)
            web.call("POST", "/smsgateway/send_test_sms", identifier=name, phone=PHONE)
            assert gateway.requests == []
        alone.start_worker()
        ends = {name: case.ends for name, case in CASES.items()}
        wait_until(lambda: states(web) == ends, 120, what=f"these ends: {ends}")
        for name, gateway in gateways.items():
            assert len(gateway.requests) == CASES[name].requests, name
            assert {request.form["to"] for request in gateway.requests} == {PHONE}
    assert "1234567" not in alone.output()


def save(web: Web, name: str, gateway: Gateway, timeout: int, *, enqueue_job: bool) -> None:
    values = {
        "parameters": {"to": "{phone}", "text": "{otp}"},
        "failure": "FAILED",
        "timeout": timeout,
        "per_number": 0,
    }
    web.call("POST", f"/smsgateway/{name}?method=POST", url=gateway.url, enqueue_job=enqueue_job, **values)


def states(web: Web) -> dict[str, str]:
    """Of the queued SMS, by gateway."""
    jobs = web.call("GET", "/jobs?name=sms.send")["jobs"]
    return {job["group"].removeprefix("sms:"): job["state"] for job in jobs}
