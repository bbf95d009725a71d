"""What people do stands in the audit log, whichever way they come."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import flask
import pytest
from click.testing import CliRunner
from integration.served import PASSWORD, Client, add_instance, make_app, settings_of, storage_of
from integration.visits import Visit

from pijobs.audit import AuditLog, Entry
from pijobs.audit.verify import verify
from pijobs.cli.invocation import who as operating_user
from pijobs.cli.main import cli
from pijobs.flask import JobQueue
from pijobs.jobs import State
from pijobs.logs.formatting import CLASSIC, JsonFormatter, RedactingFormatter
from pijobs.payload.keys import KeyRing
from pijobs_mail.servers.definitions import open_store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def app(tmp_path: Path) -> flask.Flask:
    return make_app(tmp_path, PLUGINS=("mail",))


def newest(app: flask.Flask) -> dict[str, Any]:
    return AuditLog.of(settings_of(app)).newest()[0].shown()


def told(app: flask.Flask, *names: str) -> tuple[Any, ...]:
    row = newest(app)
    return tuple(row[name] for name in names)


def test_signing_in_and_out_and_what_was_refused(app: flask.Flask) -> None:
    visit = Visit(app, "operator")
    assert told(app, "act", "outcome", "who", "address") == ("sign-in", "done", "operator", "127.0.0.1")
    assert visit.get("/smtp/new").status_code == 403
    assert told(app, "act", "outcome", "who", "role", "on") == (
        "access", "refused", "operator", "operator", "GET /pages/smtp/new"
    )  # fmt: skip
    assert Client(app, "viewer").ask("DELETE", "/jobs/x").status_code == 403
    assert told(app, "outcome", "who", "on") == ("refused", "viewer", "DELETE /jobs/x")
    visit.post("/sign-out")
    assert told(app, "act", "who") == ("sign-out", "operator")
    visit.sign_in("operator", "guessed")
    assert told(app, "act", "outcome", "who") == ("sign-in", "refused", "operator")
    app.test_client().post("/auth", json={"username": "nobody", "password": "guessed"})
    assert told(app, "act", "outcome", "who") == ("sign-in", "refused", "nobody")


def test_acts_on_the_pages(app: flask.Flask) -> None:
    visit, storage = Visit(app), storage_of(app)
    dead = add_instance(app, State.DEAD)
    fields = {"action": "retry", "id": dead}
    asked = visit.post("/jobs/act", **fields)
    assert "Retry 1 instance?" in asked.text and 'name="reason" required' in asked.text
    assert storage.get(dead).state is State.DEAD
    visit.post("/jobs/act", reason="the relay is back", **fields)
    assert told(app, "act", "who", "role", "on", "fields", "reason") == (
        "job.retry", "admin", "admin", "1 of 1", [dead], "the relay is back"
    )  # fmt: skip
    visit.post("/workers/pause", reason="maintenance")
    assert told(app, "act", "reason") == ("queue.pause", "maintenance")
    visit.post("/workers/resume")
    assert told(app, "act") == ("queue.resume",)
    visit.post("/jobs/act", action="retry", id=dead, reason="again")
    assert told(app, "act", "outcome") == ("job.retry", "failed")


def test_what_somebody_enqueues_by_http(app: flask.Flask) -> None:
    client, body = Client(app, "admin"), {"name": "mail.send", "kwargs": {"server": "main", "to": "a@example.com"}}
    answer = client._client.post("/jobs", json=body, headers={"Authorization": client.token}).get_json()
    id = answer["result"]["value"]["id"]
    assert told(app, "act", "who", "on", "fields") == ("job.enqueue", "admin", "mail.send", [id])


def test_what_changed_in_a_definition_is_told_by_name_and_no_value(app: flask.Flask) -> None:
    visit = Visit(app)
    values = {
        "server": "smtps://mail.example.com",
        "username": "otp",
        "password": "hunter2",
        "sender": "otp@example.com",
    }
    visit.post("/smtp/save", new="1", identifier="main", **values)
    assert told(app, "act", "on") == ("definition.create", "smtpserver main")
    assert {"server", "password"} <= set(newest(app)["fields"])
    visit.post("/smtp/save", identifier="main", **{**values, "password": "hunter3"})
    assert told(app, "act", "fields") == ("definition.change", ["password"])
    asked = visit.post("/smtp/delete/main")
    assert asked.status_code == 200 and "main" in open_store(settings_of(app)).list()
    visit.post("/smtp/delete/main", reason="replaced")
    assert told(app, "act", "on", "reason") == ("definition.delete", "smtpserver main", "replaced")
    assert "hunter" not in json.dumps([one.shown() for one in AuditLog.of(settings_of(app)).newest()])
    Client(app, "admin").ask("POST", "/smtpserver/second", server="127.0.0.1")
    assert told(app, "act", "on", "who") == ("definition.create", "smtpserver second", "admin")


def test_acts_of_the_api(app: flask.Flask) -> None:
    dead, waiting = add_instance(app, State.DEAD), add_instance(app)
    operator = Client(app, "operator")
    operator.ask("POST", f"/jobs/{dead}/retry", reason="the relay is back")
    assert told(app, "act", "fields", "reason", "role") == ("job.retry", [dead], "the relay is back", "operator")
    operator.ask("DELETE", f"/jobs/{waiting}")
    assert told(app, "act", "on", "fields") == ("job.cancel", "test.job", [waiting])
    operator.ask("DELETE", f"/jobs/{waiting}")
    assert told(app, "act") == ("job.delete",)


def command(directory: Path, *arguments: str, given: str = "") -> Any:
    return CliRunner().invoke(cli, [*arguments, "--config", str(directory / "pi.cfg")], input=given)


def exit_code(directory: Path, *arguments: str) -> int:
    code: int = cli.main([*arguments, "--config", str(directory / "pi.cfg")], standalone_mode=False)
    return code


def test_acts_of_commands_and_the_audit_command(app: flask.Flask, tmp_path: Path) -> None:
    lines = [f"{name} = {app.config[name]!r}" for name in app.config if name.startswith(("PI_", "SECRET", "SQLA"))]
    (tmp_path / "pi.cfg").touch(mode=0o600)
    (tmp_path / "pi.cfg").write_text("\n".join(lines))
    dead = add_instance(app, State.DEAD)
    assert command(tmp_path, "jobs", "retry", dead, "--reason", "once more").exit_code == 0
    assert told(app, "act", "who", "role", "reason") == ("job.retry", operating_user(), "command", "once more")
    assert command(tmp_path, "pause", "--yes", "--reason", "maintenance").exit_code == 0
    assert told(app, "act", "reason") == ("queue.pause", "maintenance")
    assert command(tmp_path, "admin", "add", "carol", "--password-stdin", given=f"{PASSWORD}\n").exit_code == 0
    assert told(app, "act", "about", "on") == ("account.add", "carol", "admin")
    Client(app, "viewer")
    listed = command(tmp_path, "audit", "list", "--who", "viewer")
    assert "sign-in done" in listed.output and "from 127.0.0.1" in listed.output and "carol" not in listed.output
    found = command(tmp_path, "audit", "verify")
    match = re.search(r"4 entries; head (4:[0-9a-f]{64})", found.output)
    assert found.exit_code == 0 and match is not None
    exported = json.loads(command(tmp_path, "audit", "export", "viewer").output)
    assert [row["act"] for row in exported["audit"]] == ["sign-in"] and len(exported["sessions"]) == 1
    erased = command(tmp_path, "audit", "erase", "viewer", "--yes", "--reason", "asked for it")
    assert "1 entries erased" in erased.output
    assert "127.0.0.1" not in command(tmp_path, "audit", "list").output
    assert json.loads(command(tmp_path, "audit", "export", "viewer").output)["sessions"] == []
    assert exit_code(tmp_path, "audit", "verify", "--expect", match[1]) == 0
    assert exit_code(tmp_path, "audit", "verify", "--expect", f"4:{'0' * 64}") == 1
    assert command(tmp_path, "audit", "verify", "--expect", "nonsense").exit_code == 2


def test_the_page_is_for_admins(app: flask.Flask) -> None:
    operator, admin = Visit(app, "operator"), Visit(app)
    assert operator.get("/audit").status_code == 403 and "/pages/audit" not in operator.text("/jobs")
    page = admin.text("/audit")
    assert "/pages/audit" in admin.text("/jobs") and "GET /pages/audit" in page
    assert "sign-in" not in admin.text("/audit?act=access") and "sign-in" in admin.text("/audit?who=operator")
    for number in range(60):
        AuditLog.of(settings_of(app)).append(Entry("test", on=f"number {number}"))
    first = admin.text("/audit?act=test")
    older = re.search(r'href="/pages(/audit[^"]*before=\d+)"', first)
    assert older is not None and "number 59" in first and "number 9<" not in first
    assert "number 9<" in admin.text(older[1].replace("&amp;", "&"))
    assert admin.get("/audit?before=nonsense").status_code == 200


FORGED = "sign-in refused from 203.0.113.9: "


@pytest.mark.parametrize("name", [f"x' {FORGED}'y", f"\n[now] WARNING:pijobs.audit:t:{FORGED}", "a:b"])
@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::77"])
@pytest.mark.parametrize("formatter", [RedactingFormatter(CLASSIC), JsonFormatter()])
def test_fail2ban_finds_the_address_and_no_other_one(name: str, address: str, formatter: logging.Formatter) -> None:
    entry = Entry("sign-in", "refused", who=name, address=address, reason="wrong credentials")
    record = logging.LogRecord("pijobs.audit", logging.WARNING, "", 0, "%s", (entry.line(),), None)
    text = (ROOT / "contrib/fail2ban/filter.d/pijobs.conf").read_text()
    rules = re.findall(r"^(?:failregex = |            )(\^.*)$", text, re.M)
    assert len(rules) == 2
    lines = formatter.format(record).splitlines()
    found = [re.search(rule.replace("<ADDR>", r"(?P<ip>[0-9a-f.:]+)"), line) for rule in rules for line in lines]
    assert [match["ip"] for match in found if match] == [address]
    entry = Entry("sign-in", who=name, address=address)
    done = logging.LogRecord("pijobs.audit", logging.INFO, "", 0, "%s", (entry.line(),), None)
    assert not any(re.search(rule.replace("<ADDR>", r"[0-9a-f.:]+"), formatter.format(done)) for rule in rules)


def test_an_application_tells_the_name_of_who_acts(tmp_path: Path) -> None:
    app = flask.Flask("theirs")
    app.config.update(
        SECRET_KEY="x" * 32, SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/theirs.sqlite",
        PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_URL=f"sqlite:///{tmp_path}/queue.sqlite",
        PI_JOB_QUEUE_PLUGINS=(),
    )  # fmt: skip
    JobQueue(app, pages="/queue", authorize=lambda: ("operator", "carol"))
    Visit(app, None, base="/queue").post("/workers/pause", form_of="/workers", reason="maintenance")
    assert told(app, "act", "who", "role") == ("queue.pause", "carol", "operator")


def test_the_log_stays_whole_through_all_of_this(app: flask.Flask) -> None:
    visit = Visit(app)
    visit.post("/workers/pause", reason="x")
    visit.post("/sign-out")
    settings = settings_of(app)
    assert verify(AuditLog.of(settings), KeyRing.of(settings)).faults == []
