"""What is known of SMTP servers that many use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from apps import Invocation
from click.testing import CliRunner, Result

from pijobs import Settings
from pijobs.settings import CORE_SETTINGS, validate
from pijobs_mail.command import mail
from pijobs_mail.servers.definitions import DEFINITIONS, SETTINGS, endpoint, open_store
from pijobs_mail.servers.presets import PRESETS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return validate({"SECRET_KEY": "x" * 32}, [*CORE_SETTINGS, *SETTINGS], directory=tmp_path)


def run(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(mail, ["preset", *arguments], obj=Invocation(settings))


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_makes_a_definition_that_can_be_saved(settings: Settings, name: str) -> None:
    values = {"server": "mail.example.com", **PRESETS[name].values}
    assert set(values) <= set(DEFINITIONS.fields_of(values))
    place = endpoint(open_store(settings).check(values), settings)
    assert (place.security, place.port) == ("starttls", 587)
    assert place.mails == (10 if name == "exim" else 100)


@pytest.mark.parametrize("name", ["microsoft365", "google", "ses", "mailgun", "postmark"])
def test_the_big_providers_are_known(settings: Settings, name: str) -> None:
    assert name in run(settings).output
    assert json.loads(run(settings, name, "--json").output)["values"] == dict(PRESETS[name].values)


def test_a_definition_is_made_of_a_preset(settings: Settings) -> None:
    done = run(settings, "ses", "--save", "main", "--set", "server=email-smtp.eu-central-1.amazonaws.com")
    assert done.exit_code == 0, done.output
    saved = open_store(settings).get("main")
    assert (saved["server"], saved["rate"]) == ("email-smtp.eu-central-1.amazonaws.com", "14/s")
    again = run(settings, "ses", "--save", "main")
    assert (again.exit_code, "is there already" in again.output) == (2, True)


@pytest.mark.parametrize("arguments", [["nobody"], ["ses", "--set", "server"], ["ses", "--set", "sevrer=x"]])
def test_what_is_no_preset_or_field_is_a_usage_error(settings: Settings, arguments: list[str]) -> None:
    assert run(settings, *arguments).exit_code == 2
