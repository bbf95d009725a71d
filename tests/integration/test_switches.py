"""What an operator switches, by the pages and by the API: destinations, workers; and an admin's tokens for machines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import flask
import pytest
from integration.served import Client, add_instance, add_worker, error_of, make_app, settings_of, storage_of, value_of
from integration.visits import Visit

from pijobs.audit import AuditLog
from pijobs.server.machines import Machines
from pijobs_mail.servers.definitions import open_store

HOST = {"host": "worker.example.com", "pid": "4711"}


@pytest.fixture
def app(tmp_path: Path) -> flask.Flask:
    return make_app(tmp_path, PLUGINS=("mail",))


@pytest.fixture
def operator(app: flask.Flask) -> Client:
    return Client(app, "operator")


def acts(app: flask.Flask, limit: int) -> list[tuple[str, str, str]]:
    """The newest of the audit log, oldest first."""
    newest = [link.shown() for link in AuditLog.of(settings_of(app)).newest(limit=limit)]
    return [(told["act"], told["on"], told.get("reason") or "") for told in reversed(newest)]


def paused(app: flask.Flask, name: str = "smtp:main") -> bool:
    group = storage_of(app).group(name)
    assert group is not None
    return group.paused


def test_the_api_pauses_tries_and_resumes_a_destination(app: flask.Flask, operator: Client) -> None:
    add_instance(app, group="smtp:main")
    asked = {"group": "smtp:main", "reason": "the relay moves"}
    assert value_of(operator.ask("POST", "/groups/pause", **asked)) is True
    assert paused(app)
    assert value_of(operator.ask("POST", "/groups/flush", group="smtp:main")) == {"down": False, "due": 0}
    assert value_of(operator.ask("POST", "/groups/resume", group="smtp:main")) == {"down": False}
    assert not paused(app)
    assert acts(app, 3) == [
        ("group.pause", "smtp:main", "the relay moves"), ("group.flush", "smtp:main", ""),
        ("group.resume", "smtp:main", ""),
    ]  # fmt: skip


def test_the_api_pauses_the_queue_and_has_jobs_run_in_the_request(app: flask.Flask, operator: Client) -> None:
    operator.ask("POST", "/groups/pause", reason="moving house")
    operator.ask("POST", "/groups/bypass", reason="workers hang")
    depths = storage_of(app).depths()
    assert depths.paused and list(depths.bypasses) == [""]
    operator.ask("DELETE", "/groups/bypass")
    operator.ask("POST", "/groups/resume")
    depths = storage_of(app).depths()
    assert not depths.paused and not depths.bypasses
    assert [act for act, _, _ in acts(app, 4)] == ["queue.pause", "bypass.begin", "bypass.end", "queue.resume"]


@pytest.mark.parametrize("switch", ["pause", "bypass"])
def test_the_api_wants_a_reason(app: flask.Flask, operator: Client, switch: str) -> None:
    assert error_of(operator.ask("POST", f"/groups/{switch}")) == (400, 905)
    assert error_of(operator.ask("POST", f"/groups/{switch}", reason=" \n")) == (400, 905)
    assert not storage_of(app).depths().paused and not storage_of(app).depths().bypasses


@pytest.mark.parametrize("switch", ["pause", "resume", "flush", "bypass"])
def test_the_api_knows_no_other_groups(operator: Client, switch: str) -> None:
    assert error_of(operator.ask("POST", f"/groups/{switch}", group="smtp:mian", reason="a typo")) == (404, 601)


@pytest.mark.parametrize("switch", ["pause", "resume", "flush", "bypass"])
def test_a_name_that_no_storage_takes_is_one_of_no_group(app: flask.Flask, operator: Client, switch: str) -> None:
    for name in ("\ud800", "a\0b"):
        response = operator.send("POST", f"/groups/{switch}", {"group": name, "reason": "half of a pair"})
        assert error_of(response) == (404, 601)


def test_a_bypass_that_is_not_there_can_not_be_ended(app: flask.Flask, operator: Client) -> None:
    operator.ask("POST", "/groups/bypass", reason="workers hang")
    assert error_of(operator.ask("DELETE", "/groups/bypass", group="smtp:mian")) == (409, 409)
    assert list(storage_of(app).depths().bypasses) == [""]
    operator.ask("DELETE", "/groups/bypass")
    assert error_of(operator.ask("DELETE", "/groups/bypass")) == (409, 409)
    assert [act for act, _, _ in acts(app, 2)] == ["bypass.begin", "bypass.end"]


def quiet(app: flask.Flask) -> list[bool]:
    return [bool(one.info.quiet) for one in storage_of(app).sessions()]


def test_the_api_has_the_workers_of_a_host_take_no_more_and_again(app: flask.Flask, operator: Client) -> None:
    add_worker(app)
    assert value_of(operator.ask("POST", "/workers/quiet", host=HOST["host"])) == 1
    assert quiet(app) == [True]
    assert value_of(operator.ask("DELETE", "/workers/quiet", **HOST)) == 1
    assert quiet(app) == [False]
    for wrong, error in (({"host": "other"}, (404, 601)), ({**HOST, "pid": "x"}, (400, 905)), ({}, (400, 905))):
        assert error_of(operator.ask("POST", "/workers/quiet", **wrong)) == error
    assert acts(app, 2) == [("worker.quiet", HOST["host"], ""), ("worker.quiet-end", "worker.example.com 4711", "")]


def test_a_page_has_a_worker_take_no_more_and_again(app: flask.Flask) -> None:
    visit = Visit(app, "operator")
    add_worker(app)
    assert "takes no more jobs, and finishes the ones it has" in visit.follow(visit.post("/workers/quiet", **HOST))
    assert quiet(app) == [True] and "Take jobs again" in visit.text("/workers")
    visit.post("/workers/quiet", end="1", **HOST)
    assert quiet(app) == [False]
    assert visit.post("/workers/quiet", host="other", pid="1").status_code == 404
    assert "Take no more jobs</button>" not in Visit(app, "viewer").text("/workers")


def test_the_page_of_a_destination_pauses_it_and_tries_it_now(app: flask.Flask) -> None:
    open_store(settings_of(app)).save("main", {"server": "smtps://mail.example.com"})
    visit = Visit(app)
    assert "Pause smtp:main" not in visit.text("/smtp/edit/main"), "nothing was ever sent by it"
    add_instance(app, group="smtp:main")
    page = visit.text("/smtp/edit/main")
    assert "1 waiting" in page and "Pause smtp:main" in page and "Try smtp:main now" in page
    visit.post("/workers/pause", group="smtp:main", reason="the relay moves")
    page = visit.text("/smtp/edit/main")
    assert "Resume smtp:main" in page and "the relay moves" in page


def test_the_first_page_has_the_switch_of_three_in_the_morning_when_it_is_red(app: flask.Flask) -> None:
    visit, switch = Visit(app, "operator"), "Send in the request…</button>"
    add_instance(app, group="smtp:main")
    assert switch in visit.text("/"), "no worker is alive"
    assert switch not in Visit(app, "viewer").text("/")
    visit.post("/workers/bypass", group="smtp:main", reason="workers hang")
    page = visit.text("/")
    assert "End the bypass of smtp:main</button>" in page and switch not in page
    visit.post("/workers/bypass/end", group="smtp:main")
    add_worker(app)
    assert switch not in visit.text("/")


# -- tokens ----------------------------------------------------------------------------------------------------------


def make_token(visit: Visit, **fields: Any) -> str:
    return visit.post("/tokens/new", **{"name": "shop", "days": "90", "scope": ["enqueue:mail.send"], **fields}).text


def test_a_token_is_made_shown_once_and_removed(app: flask.Flask) -> None:
    visit = Visit(app)
    assert "enqueue mail.send" in visit.text("/tokens/new")
    shown = re.search(r"pijobs_[\w-]{43}", make_token(visit))
    assert shown is not None
    machine = Machines.of(settings_of(app)).get(shown[0])
    assert machine is not None and machine.scopes == ("enqueue:mail.send",)
    assert 89 < (machine.until - machine.created) / 86400 < 91
    page = visit.text("/tokens")
    assert "shop" in page and "enqueue:mail.send" in page and shown[0] not in page
    visit.post("/tokens/remove", name="shop")
    assert Machines.of(settings_of(app)).get(shown[0]) is None
    assert visit.post("/tokens/remove", name="shop").status_code == 404
    assert [act for act, _, _ in acts(app, 2)] == ["token.add", "token.remove"]


@pytest.mark.parametrize(
    ("field", "told"),
    [({"days": "0"}, "days: expected"), ({"scope": []}, "expected as scope"), ({"name": "a b"}, "Expected a name")],
)
def test_a_token_that_can_not_be_is_refused_and_what_was_typed_stays(
    app: flask.Flask, field: dict[str, Any], told: str
) -> None:
    page = make_token(Visit(app), **field)
    assert told.lower() in page.lower() and f'value="{field.get("days", "90")}"' in page
    assert Machines.of(settings_of(app)).list() == []


def test_pages_in_an_app_without_the_routes_have_no_tokens(tmp_path: Path) -> None:
    from pijobs.flask import JobQueue

    app = flask.Flask("host")
    app.config.update(
        SECRET_KEY="a host's", PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_PLUGINS=(),
        PI_JOB_QUEUE_URL=f"sqlite:///{tmp_path}/queue.sqlite",
    )  # fmt: skip
    JobQueue(app, pages="/jobqueue", authorize=lambda: "admin")
    page = app.test_client().get("/jobqueue/").text
    assert "Audit" in page and "Tokens" not in page
