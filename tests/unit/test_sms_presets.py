"""What is known of SMS gateways that many use, against imitations of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import Invocation, app_in_memory
from click.testing import CliRunner, Result
from sms_gateway import Answer, Gateway, always
from sms_providers import PASSWORD, PROVIDERS, REFUSED, SENDER, USERNAME

from pijobs import DestinationDown, FailJob, Settings, State
from pijobs.flask import current_queue
from pijobs_sms.command import sms
from pijobs_sms.gateways import open_store
from pijobs_sms.presets import PRESETS
from pijobs_sms.send import send_sms

PHONE, TEXT = "+491701234567", 'Ihr "Code": 739105 & €'


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    app = app_in_memory(tmp_path, "sms")
    with app.app_context():
        yield current_queue().settings


@pytest.fixture(params=PRESETS)
def provider(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Gateway]:
    """An imitation, and the gateway ``main`` made of its preset."""
    name = request.param
    with Gateway() as gateway:
        gateway.answer = lambda number: PROVIDERS[name](gateway.requests[-1])
        preset: dict[str, Any] = dict(PRESETS[name].values)
        path = preset["url"].split("/", 3)[3]
        preset["url"] = f"http://127.0.0.1:{gateway.port}/{path}"
        login = {"username": USERNAME, "password": PASSWORD, "sender": SENDER}
        open_store(settings).save("main", {**preset, **login, "aws_region": "eu-central-1"})
        yield gateway


def test_each_provider_takes_an_sms_by_its_preset(provider: Gateway) -> None:
    assert send_sms("main", PHONE, TEXT).state is State.DONE
    assert len(provider.requests) == 1


def test_each_provider_refuses_a_number_and_a_login(provider: Gateway, settings: Settings) -> None:
    with pytest.raises(FailJob) as error:
        send_sms("main", REFUSED, TEXT)
    assert REFUSED.strip("+") not in str(error.value)
    open_store(settings).save("main", {"password": "wrong", "username": "wrong"})
    with pytest.raises(FailJob):
        send_sms("main", PHONE, TEXT)


def test_amazon_wants_us_to_slow_down(settings: Settings) -> None:
    with Gateway(
        always(Answer(400, "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>"))
    ) as gateway:
        values = {**PRESETS["sns"].values, "url": gateway.url, "aws_region": "eu-central-1"}
        open_store(settings).save("main", values)
        with pytest.raises(DestinationDown, match="wants us to slow down") as error:
            send_sms("main", PHONE, TEXT)
        assert not error.value.counted


def run(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(sms, ["preset", *arguments], obj=Invocation(settings))


@pytest.mark.parametrize("name", PRESETS)
def test_a_gateway_is_made_of_a_preset(settings: Settings, name: str) -> None:
    assert name in run(settings).output
    assert json.loads(run(settings, name, "--json").output)["values"] == PRESETS[name].values
    done = run(settings, name, "--save", "main", "--set", "sender=ACME", "--set", "password=hunter2")
    assert done.exit_code == 0, done.output
    saved = open_store(settings).get("main")
    assert {field: saved[field] for field in PRESETS[name].values} == PRESETS[name].values
    assert (saved["sender"], saved["password"]) == ("ACME", "hunter2")
    again = run(settings, name, "--save", "main")
    assert (again.exit_code, "is there already" in again.output) == (2, True)


@pytest.mark.parametrize("arguments", [["nobody"], ["seven", "--set", "sender"], ["seven", "--set", "sendr=x"]])
def test_what_is_no_preset_or_field_is_a_usage_error(settings: Settings, arguments: list[str]) -> None:
    assert run(settings, *arguments).exit_code == 2
