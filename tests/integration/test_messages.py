"""The helpdesk: what became of one person's messages, on its page, over HTTP and as a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from integration.served import SECRET_KEY, Client, add_instance, error_of, make_app, queue_of, settings_of, value_of
from integration.visits import Visit

from pijobs.audit import AuditLog
from pijobs.cli.main import main
from pijobs.jobs import State
from pijobs.payload.keys import KeyRing

WHO = "alice@example.com"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    app = make_app(tmp_path_factory.mktemp("desk"))
    newest = KeyRing.of(settings_of(app)).newest
    add_instance(app, State.DEAD, subject=newest.lookup("subject", WHO), person=newest.lookup("subject", "alice"),
                 label="mail to a***@example.com")  # fmt: skip
    add_instance(app, State.DONE, person=newest.lookup("subject", "bob"), label="mail to <b>***@example.com")
    return app


def test_the_page_of_the_helpdesk_finds_a_person_and_shows_no_more_than_the_label(app: Flask) -> None:
    visit = Visit(app, "helpdesk")
    page = visit.post("/messages", form_of="/messages", who="Alice").text
    assert "mail to a***@example.com" in page and "Failed: 550 no such user; given up at" in page
    assert "/pages/jobs" not in page and "bob" not in page and "retired" in page
    assert WHO not in visit.post("/messages", form_of="/messages", who=WHO.upper()).text
    assert "&lt;b&gt;***@example.com" in visit.post("/messages", form_of="/messages", who="bob").text
    nobody = visit.post("/messages", form_of="/messages", who='<i>"').text
    assert "No message is known" in nobody and "<i>" not in nobody and "&lt;i&gt;" in nobody


def test_the_sentence_is_in_the_language_of_the_page_and_a_reason_is_no_markup(app: Flask) -> None:
    newest = KeyRing.of(settings_of(app)).newest
    id = add_instance(app, subject=newest.lookup("subject", "carla"), label="mail to c***@example.com")
    queue_of(app).cancel(id, "<script>")
    visit = Visit(app, "helpdesk")
    form = {"csrf_token": visit.token("/messages"), "who": "carla"}
    page = visit.client.post("/pages/messages", data=form, headers={"Accept-Language": "de"}).text
    assert "Fehlgeschlagen: &lt;script&gt;; um <time datetime=" in page and "<script>;" not in page


def test_the_helpdesk_begins_at_its_page_and_sees_no_other(app: Flask) -> None:
    visit = Visit(app, "helpdesk")
    assert visit.get("/").headers["Location"].endswith("/pages/messages")
    page = visit.text("/messages")
    assert all(f"/pages/{name}" not in page for name in ("workers", "schedule", "audit", "jobs"))
    assert visit.get("/jobs").status_code == visit.get("/workers").status_code == 403
    assert visit.text("/account")


def test_the_first_page_of_all_others_has_the_search(app: Flask) -> None:
    visit = Visit(app, "viewer")
    assert 'action="/pages/messages"' in visit.text("/") and "/pages/jobs/" in visit.post("/messages", who="bob").text


def test_the_route_tells_each_message_in_a_sentence(app: Flask) -> None:
    client = Client(app, "helpdesk")

    def ask(**query: Any) -> Any:
        return client._client.post("/messages", headers={"Authorization": client.token}, **query)

    (row,) = value_of(ask(json={"who": WHO}))["messages"]
    assert row["sentence"].startswith("Failed: 550 no such user") and row["label"] == "mail to a***@example.com"
    assert set(row) == {"id", "created", "name", "label", "state", "tone", "sentence"}
    assert error_of(ask(query_string={"who": WHO})) == (400, 905) == error_of(ask(json={}))


def test_a_search_stands_in_the_audit_log_without_the_person(app: Flask) -> None:
    Visit(app, "helpdesk").post("/messages", form_of="/messages", who=WHO)
    link = next(iter(AuditLog.of(settings_of(app)).newest(limit=1)))
    assert (link.content["act"], link.content["on"]) == ("message.find", "1 found")
    assert WHO not in json.dumps(link.content) + str(link.plain)


def test_the_command_tells_the_same(app: Flask, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "pi.cfg"
    config.touch(0o600)
    config.write_text(
        f"SECRET_KEY = {SECRET_KEY!r}\nPI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'\nPI_JOB_QUEUE_PLUGINS = []\n"
        f"PI_JOB_QUEUE_URL = {settings_of(app).storage_url!r}\n"
    )
    printed = []
    for arguments in (("alice",), ("alice", "--json"), ("carol",)):
        with pytest.raises(SystemExit):
            main(["--config", str(config), "jobs", "find", *arguments])
        printed.append(capsys.readouterr().out)
    assert "mail to a***@example.com: Failed: 550 no such user; given up at" in printed[0]
    assert json.loads(printed[1])[0]["told"].startswith("Failed")
    assert "no message is known" in printed[2] and "retired" in printed[2]
