"""The OpenAPI document holds to the standard, and the server to the document; tokens of machines do what they may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from hypothesis import HealthCheck, given, settings
from integration.served import (
    PASSWORD,
    SECRET_KEY,
    Client,
    error_of,
    make_app,
    queue_of,
    settings_of,
    storage_of,
    value_of,
)
from openapi_spec_validator import validate

from pijobs.audit import AuditLog
from pijobs.cli.main import main
from pijobs.server.machines import MachineError, Machines

#: A token that ends itself, and a connection that stays open.
LEFT_OUT = ("DELETE /auth", "GET /jobs/{id}/events")
#: What stands behind the server did not do its part.
OTHERS_FAULT = (502, 503)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> flask.Flask:
    return make_app(tmp_path_factory.mktemp("api"), PLUGINS=("mail", "sms", "statistics"))


@pytest.fixture(scope="module")
def document(app: flask.Flask) -> Any:
    return app.test_client().get("/api/openapi.json").json


def test_the_document_is_one_and_has_each_route_with_its_role(app: flask.Flask, document: Any) -> None:
    validate(document)
    rules = {rule.rule for rule in app.url_map.iter_rules()} - {"/"}
    assert len(document["paths"]) == len([rule for rule in rules if not rule.startswith(("/pages", "/api/"))])
    listed = document["paths"]["/jobs"]["get"]
    assert listed["security"] == [{"token": []}] and "the role viewer" in listed["description"]
    assert {one["name"] for one in listed["parameters"]} == {"state", "name", "group", "subject", "limit", "cursor"}
    assert "enqueue_job" in str(document["paths"]["/smtpserver/{identifier}"]["post"]["requestBody"])
    assert "security" not in document["paths"]["/livez"]["get"]


def test_the_page_shows_all_of_it_and_loads_nothing_from_elsewhere(app: flask.Flask, document: Any) -> None:
    response = app.test_client().get("/api/docs")
    for path in document["paths"]:
        assert f" {path}</code>" in response.text
    assert "http" not in response.text.replace("OpenAPI", "") and "<script" not in response.text
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")


def play(app: flask.Flask, examples: int) -> Iterator[str]:
    """Call each operation by what the document allows."""
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.specs.openapi import checks

    token = Client(app, "admin").token
    how = settings(max_examples=examples, deadline=None, database=None, derandomize=examples < 10,
                   suppress_health_check=list(HealthCheck))  # fmt: skip
    for found in schemathesis.openapi.from_wsgi("/api/openapi.json", app).get_all_operations():
        operation = found.ok()
        if operation.label in LEFT_OUT:
            continue

        @given(case=operation.as_strategy())
        @how
        def call(case: Any) -> None:
            response = case.call(headers={"Authorization": token})
            assert response.status_code < 500 or response.status_code in OTHERS_FAULT, (case.path, response.text)
            case.validate_response(
                response, checks=[checks.status_code_conformance, checks.content_type_conformance,
                                  checks.response_schema_conformance],
            )  # fmt: skip

        call()
        yield operation.label
    # Whatever was switched meanwhile.
    storage_of(app).resume()
    storage_of(app).end_bypass()


def test_each_route_answers_as_the_document_says_whatever_it_allows(app: flask.Flask) -> None:
    # Two examples for each of 25 routes take two seconds: nothing below a generator of requests would show it.
    assert len(list(play(app, 2))) > 20


@pytest.mark.chaos
def test_each_route_answers_as_the_document_says_a_hundred_times(app: flask.Flask) -> None:
    assert len(list(play(app, 100))) > 20


# -- tokens for machines ---------------------------------------------------------------------------------------------


class MachineClient:
    def __init__(self, app: flask.Flask, name: str, *scopes: str, days: float = 1) -> None:
        self.token = Machines.of(settings_of(app)).add(name, scopes, days)
        self._client = app.test_client()

    def ask(self, method: str, path: str, **body: Any) -> Any:
        return self._client.open(
            path, method=method, json=body or None, headers={"Authorization": f"Bearer {self.token}"}
        )


def test_a_machine_enqueues_the_jobs_of_its_scope_and_nothing_else(app: flask.Flask) -> None:
    machine = MachineClient(app, "shop", "enqueue:sms.*")
    sms = {"gateway": "main", "phone": "+4917012345678", "text": "x"}
    answer = value_of(machine.ask("POST", "/jobs", name="sms.send", kwargs=sms, expires=60, key="k"))
    assert (answer["state"], answer["via"]) == ("queued", "storage")
    assert queue_of(app).places.find(answer["id"])[1].name == "sms.send"
    mail = {"server": "main", "to": "a@example.com"}
    assert error_of(machine.ask("POST", "/jobs", name="mail.send", kwargs=mail)) == (403, 303)
    for method, path in (("GET", "/jobs"), ("GET", "/workers"), ("POST", "/smtpserver/x"), ("DELETE", "/auth"),
                         ("POST", "/messages"), ("DELETE", f"/jobs/{answer['id']}")):  # fmt: skip
        assert machine.ask(method, path, who="x").status_code in (401, 403), path
    newest = next(iter(AuditLog.of(settings_of(app)).newest(limit=1)))
    assert (newest.content["act"], newest.content["outcome"], newest.content["role"]) == (
        "access",
        "refused",
        "machine",
    )


def test_a_machine_that_reads_the_status_changes_nothing(app: flask.Flask) -> None:
    machine = MachineClient(app, "nagios", "status")
    for path in ("/jobs", "/workers", "/groups"):
        assert machine.ask("GET", path).status_code == 200
    assert error_of(machine.ask("POST", "/jobs", name="sms.send")) == (403, 303)
    assert error_of(machine.ask("GET", "/smtpserver/")) == (403, 303)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "parameter 'name'"),
        ({"name": "sms.sent"}, "did you mean 'sms.send'"),
        ({"name": "sms.send", "kwargs": {"phone": 1}}, "sms.send"),
        ({"name": "sms.send", "kwargs": []}, "missing"),
        ({"name": "sms.send", "kwargs": "x"}, "JSON object"),
        ({"name": "sms.send", "kwargs": {"gateway": "m", "phone": "1", "text": "t"}, "delay": "soon"}, "delay"),
        ({"name": "sms.send", "kwargs": {"gateway": "m", "phone": "1", "text": "t"}, "on_conflict": ["x"]}, "conflict"),
    ],
)
def test_a_call_that_can_not_be_meant_is_refused_with_what_was_expected(
    app: flask.Flask, body: dict[str, Any], said: str
) -> None:
    client = Client(app, "admin")
    answer = client._client.post("/jobs", json=body, headers={"Authorization": client.token})
    assert error_of(answer) == (400, 905) and said in answer.text


def test_a_token_ends_by_its_time_and_when_it_is_removed_and_nothing_of_it_is_kept(app: flask.Flask) -> None:
    old, new = MachineClient(app, "old", "status", days=-1), MachineClient(app, "new", "status")
    assert old.ask("GET", "/jobs").status_code == 401 and new.ask("GET", "/jobs").status_code == 200
    machines = Machines.of(settings_of(app))
    assert new.token not in repr(machines.list())
    machines.remove("new")
    assert new.ask("GET", "/jobs").status_code == 401
    for name, scopes in (("a b", ["status"]), ("x", []), ("x", ["admin"]), ("x", ["enqueue:*"]), ("old", ["status"])):
        with pytest.raises(MachineError):
            machines.add(name, scopes, 1)
    with pytest.raises(MachineError):
        machines.remove("nobody")


def test_the_command_makes_lists_and_removes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "pi.cfg"
    config.touch(0o600)
    config.write_text(f"SECRET_KEY = {SECRET_KEY!r}\nPI_JOB_QUEUE_PLUGINS = ['mail']\n")

    def run(*arguments: str) -> tuple[str, str]:
        with pytest.raises(SystemExit):
            main(["--config", str(config), "admin", "token", *arguments])
        return tuple(capsys.readouterr())  # type: ignore[return-value]

    token, warned = run("add", "shop", "--scope", "enqueue:mail.send", "--scope", "enqueue:sms.*", "--days", "30")
    assert token.startswith("pijobs_") and "'enqueue:sms.*'" in warned and "mail.send" not in warned
    assert "shop  enqueue:mail.send enqueue:sms.*  until 20" in run("list")[0]
    assert json.loads(run("list", "--json")[0])[0]["seen"] is None
    assert "removed" in run("remove", "shop")[0] and "no tokens" in run("list")[0]
    assert PASSWORD not in token
