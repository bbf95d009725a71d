"""A worker that finds other definitions than the server is told within seconds, not when a mail has waited for long."""

from __future__ import annotations

import json
import shutil
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import flask
import pytest
from challenges import PATIENCE
from services import wait_until

from pijobs.definitions import Fingerprint
from pijobs.observe.readiness import readiness
from pijobs.storage.sessions import SessionInfo
from pijobs_privacyidea import HueyQueue
from pijobs_privacyidea.fingerprint import DefinitionsFingerprint

if TYPE_CHECKING:
    from pijobs_privacyidea.instance import Instance

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

MAIN = {"identifier": "main", "server": "mail.example.com", "port": 25, "username": "", "sender": "a@example.com"}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The SMTP servers in privacyIDEA's database."""
    found: list[dict[str, Any]] = [MAIN]
    monkeypatch.setattr(
        "privacyidea.lib.smtpserver.get_smtpservers",
        lambda: [SimpleNamespace(config=SimpleNamespace(**row)) for row in found],
    )
    monkeypatch.setattr("privacyidea.lib.smsprovider.SMSProvider.get_smsgateway", list)
    return found


def test_it_is_told_by_the_definitions_and_only_where_privacyidea_is(rows: list[dict[str, Any]]) -> None:
    queue = HueyQueue({"url": "memory://", "keys": ["k"]})
    own = Fingerprint.of(queue.settings)
    assert isinstance(own, DefinitionsFingerprint) and own.read() is None
    app = flask.Flask("privacyidea")
    app.config["_app_local_store"] = {}
    with app.app_context():
        before = own.read()
        assert before and own.read() == before
        for other in ([], [{**MAIN, "server": "mail.example.org"}], [MAIN, {**MAIN, "identifier": "second"}]):
            rows[:] = other
            assert own.read() != before
        rows[:] = [MAIN]
        assert own.read() == before


def test_readiness_is_red_when_a_worker_finds_others(rows: list[dict[str, Any]]) -> None:
    queue = HueyQueue({"url": "memory://", "keys": ["k"]})
    app, storage = flask.Flask("privacyidea"), queue.storage
    assert storage is not None
    app.config["_app_local_store"] = {}
    with app.app_context():
        here = Fingerprint.of(queue.settings).read()
        for told, ok in ((here, True), ("another", False)):
            info = SessionInfo(uuid4().hex, f"host-{told}", 1, storage.now(), "1", definitions=told)
            storage.open_session(info, lease=60_000)
            found = dict(readiness(queue))["definitions"]
            assert found.ok is ok, found
    assert "host-another pid 1" in found.message and "SQLALCHEMY_DATABASE_URI" in found.advice
    storage.close()


def definitions_of(instance: Instance) -> dict[str, Any]:
    """What /healthz tells of the definitions."""
    try:
        with urllib.request.urlopen(f"{instance.url}/jobqueue/healthz", timeout=PATIENCE) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        answer = json.load(error)
    found: dict[str, Any] = answer["result"]["value"]["checks"]["definitions"]
    return found


def test_a_worker_with_another_database_is_red_at_once(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    other = instance.here / "other.sqlite"
    shutil.copy(instance.here / "privacyidea.sqlite", other)
    with closing(sqlite3.connect(other)) as database, database:
        database.execute("DELETE FROM smtpserver")
    config = instance.here / "other.cfg"
    config.write_text(instance.config.read_text().replace("'privacyidea.sqlite'", "'other.sqlite'"))
    config.chmod(0o640)
    with instance.working():
        assert definitions_of(instance)["ok"]
        monkeypatch.setattr(instance, "config", config)
        worker = instance.work("-w", "1")
        try:
            wait_until(lambda: not definitions_of(instance)["ok"], PATIENCE)
        finally:
            worker.kill()
            worker.wait()
    assert "1 of 2 live workers read another database" in definitions_of(instance)["message"]
