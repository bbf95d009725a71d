"""What a hostile stranger tries against the pages, and that it is refused."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import flask
import pytest
from integration.served import PASSWORD, add_instance, make_app, settings_of, storage_of
from integration.visits import Visit
from sms_gateway import Answer, Gateway

from pijobs.groups import Policy
from pijobs.hookspecs import Page
from pijobs.jobs import State
from pijobs.server import create_app
from pijobs.server.accounts import Accounts
from pijobs.server.auth import HostSignIn
from pijobs.server.pages.site import Site
from pijobs.server.pages.visitor import LIFETIME, PAGES
from pijobs.storage.contract import End, NewInstance, SessionInfo
from pijobs_mail.servers import open_store
from pijobs_mail.sink import Sink
from pijobs_sms import gateways
from pijobs_statistics.store import Store
from pijobs_statistics.values import minute

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
#: What changes something, with the least role that may: none of it is done for others, or without the token.
CHANGES = {
    "/jobs/confirm": "operator", "/jobs/act": "operator", "/workers/pause": "operator", "/workers/resume": "operator",
    "/smtp/save": "admin", "/smtp/test/main": "admin", "/smtp/delete/main": "admin",
    "/sms/save": "admin", "/sms/test/main": "admin", "/sms/delete/main": "admin",
}  # fmt: skip


@pytest.fixture
def app(tmp_path: Path) -> flask.Flask:
    return make_app(tmp_path, PLUGINS=("mail", "sms", "statistics"), STATISTICS_JOURNAL=str(tmp_path / "journal"))


def changing_routes(app: flask.Flask) -> set[str]:
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/pages/") and "POST" in rule.methods]  # type: ignore[operator]
    return {rule.rule.removeprefix("/pages").replace("<identifier>", "main") for rule in rules}


def test_every_route_that_changes_something_is_tried_here(app: flask.Flask) -> None:
    assert changing_routes(app) == {*CHANGES, "/sign-in", "/sign-out"}


@pytest.mark.parametrize("path", [*CHANGES, "/sign-in", "/sign-out"])
@pytest.mark.parametrize("token", [None, "", "guessed", "ünïcode"])
def test_a_form_of_another_site_is_refused(app: flask.Flask, path: str, token: str | None) -> None:
    visit = Visit(app)
    id = add_instance(app)
    fields = {"action": "cancel", "id": id, "username": "admin", "password": PASSWORD}
    response = visit.client.post(f"/pages{path}", data=fields if token is None else {**fields, "csrf_token": token})
    assert response.status_code == 400
    assert storage_of(app).get(id).state is State.QUEUED
    assert not storage_of(app).depths().paused
    assert visit.get("/").status_code == 200


def test_a_token_of_somebody_else_is_refused(app: flask.Flask) -> None:
    other = Visit(app, "viewer").token()
    response = Visit(app).client.post("/pages/workers/pause", data={"csrf_token": other})
    assert response.status_code == 400


def test_every_form_carries_the_token(app: flask.Flask) -> None:
    visit = Visit(app)
    open_store(settings_of(app)).save("main", {"server": "mail.example.com"})
    waiting = add_instance(app)
    for path in ("/", "/jobs", f"/jobs/{waiting}", "/workers", "/smtp/new", "/smtp/edit/main", "/smtp/delete/main"):
        forms = re.findall(r'<form[^>]*method="post".*?</form>', visit.text(path), re.S)
        assert forms
        assert all("csrf_token" in form for form in forms)


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_a_role_can_not_do_what_is_above_it(app: flask.Flask, role: str) -> None:
    open_store(settings_of(app)).save("main", {"server": "mail.example.com"})
    visit = Visit(app, role)
    for path, least in CHANGES.items():
        refused = visit.post(path, action="cancel", id="x").status_code == 403
        assert refused == (least == "admin" or role == "viewer"), path
    for path in ("/smtp/new", "/smtp/edit/main", "/smtp/delete/main", "/sms/new", "/sms/edit/main"):
        assert visit.get(path).status_code == 403


def test_a_viewer_is_offered_nothing_that_is_refused(app: flask.Flask) -> None:
    visit = Visit(app, "viewer")
    id = add_instance(app, State.DEAD)
    for path in ("/jobs", f"/jobs/{id}", "/workers", "/smtp/", "/sms/", "/statistics/"):
        page = visit.text(path)
        assert re.findall(r'<form[^>]*method="post" action="([^"]*)"', page.replace('class="who" ', "")) in (
            ["/pages/sign-out"],
            ["/pages/sign-out", "/pages/jobs/confirm"],
        )
        assert "New S" not in page and "Retry…" not in page and "Pause" not in page


def test_who_did_not_sign_in_sees_nothing(app: flask.Flask) -> None:
    visit = Visit(app, None)
    paths = ("/", "/jobs", "/jobs/x", "/workers", "/smtp/", "/smtp/new", "/sms/", "/statistics/", "/statistics/csv")
    for path in paths:
        response = visit.get(path)
        assert (response.status_code, response.headers["Location"].partition("?")[0]) == (302, "/pages/sign-in")
    assert visit.get("/jobs", **{"HX-Request": "true"}).status_code == 401


# -- sessions --------------------------------------------------------------------------------------------------------


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(app: flask.Flask) -> None:
    visit = Visit(app, None)
    Accounts.of(settings_of(app)).add("root", PASSWORD, "admin")
    cookie = visit.sign_in("root").headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie
    secure = app.test_client().get("/pages/sign-in", base_url="https://localhost").headers["Set-Cookie"]
    assert "Secure" in secure


def test_a_session_that_was_prepared_for_somebody_is_worth_nothing(app: flask.Flask) -> None:
    attacker = Visit(app, None)
    token = attacker.token("/sign-in")
    prepared = attacker.client.get_cookie("pijobs")
    assert prepared is not None
    Accounts.of(settings_of(app)).add("root", PASSWORD, "admin")
    victim = Visit(app, None)
    victim.client.set_cookie("pijobs", prepared.value)
    fields = {"csrf_token": token, "username": "root", "password": PASSWORD}
    assert victim.client.post("/pages/sign-in", data=fields).status_code == 303
    renewed = victim.client.get_cookie("pijobs")
    assert renewed is not None and renewed.value != prepared.value
    assert attacker.get("/").status_code == 302
    assert victim.token() != token
    assert victim.client.post("/pages/workers/pause", data={"csrf_token": token}).status_code == 400


def test_a_forged_session_is_worth_nothing(app: flask.Flask, tmp_path: Path) -> None:
    forger = flask.Flask("forger")
    forger.secret_key = "guessed"
    signer = forger.session_interface.get_signing_serializer(forger)  # type: ignore[attr-defined]
    visit = Visit(app, None)
    visit.client.set_cookie("pijobs", signer.dumps({PAGES: {"account": ["root", "x", 2**40]}}))
    assert visit.get("/").status_code == 302


def test_a_session_ends_with_its_time_its_password_its_account_and_its_sign_out(
    app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = Accounts.of(settings_of(app))
    visits = {role: Visit(app, role) for role in ("viewer", "operator", "admin")}
    accounts.set_password("viewer", "another password")
    accounts.remove("operator")
    visits["admin"].post("/sign-out")
    assert [visit.get("/").status_code for visit in visits.values()] == [302, 302, 302]
    late = Visit(app, "admin")
    now = time.time()
    monkeypatch.setattr("pijobs.server.pages.visitor.time.time", lambda: now + LIFETIME + 60)
    assert late.get("/").status_code == 302


def test_somebody_who_is_no_administrator_of_the_host_any_more_is_out_at_once(tmp_path: Path) -> None:
    present = {"root"}
    host = HostSignIn(lambda token: None, lambda name, password: name, lambda name: name in present)
    settings = {"SECRET_KEY": "s", "PI_JOB_QUEUE_PLUGINS": (), "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/x"}
    visit = Visit(create_app(settings=settings, host_sign_in=host), None)
    assert visit.sign_in("root").status_code == 303
    assert visit.get("/").status_code == 200
    present.clear()
    assert visit.get("/").status_code == 302
    assert visit.get("/jobs", **{"HX-Request": "true"}).status_code == 401


def test_guessing_a_password_ends_after_some_tries(app: flask.Flask) -> None:
    visit = Visit(app, None)
    Accounts.of(settings_of(app)).add("root", PASSWORD, "admin")
    statuses = [visit.sign_in("root", f"guess {number}").status_code for number in range(12)]
    assert statuses[0] == 401 and statuses[-1] == 429


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)",
        "/pages/../../evil", "/pages/%2e%2e/evil", "/pages/.%2E/evil",
        "/evil", "https:/pages/", "/pages/\n//evil.example", "http://localhost/pages/", "pages/",
        "///pages/", "////pages/jobs", "/%2fpages/", "%2fpages/", "//pages/", " //evil.example/pages/",
        "/\t/evil.example",
    ],
)  # fmt: skip
def test_nobody_is_led_elsewhere_after_signing_in(app: flask.Flask, target: str) -> None:
    visit = Visit(app, None)
    Accounts.of(settings_of(app)).add("root", PASSWORD, "admin")
    assert visit.sign_in("root", next=target).headers["Location"] == "/pages/"
    location = visit.client.get("/pages/sign-in", query_string={"next": target}).headers["Location"]
    assert location == "/pages/"


def test_who_was_asked_to_sign_in_comes_back(app: flask.Flask) -> None:
    visit = Visit(app, None)
    Accounts.of(settings_of(app)).add("root", PASSWORD, "admin")
    assert visit.sign_in("root", next="/pages/jobs?state=dead").headers["Location"] == "/pages/jobs?state=dead"


def test_what_is_told_does_not_burst_the_cookie(app: flask.Flask) -> None:
    visit, group = Visit(app), "ü" * 500
    ids = [add_instance(app, group=group) for _ in range(3)]
    token = visit.token()
    for _ in range(6):
        # Nobody looks at a page in between, so that nothing of it is told.
        visit.client.post("/pages/workers/pause", data={"csrf_token": token, "group": group, "reason": "r"})
    cookie = visit.client.get_cookie("pijobs")
    assert cookie is not None and len(cookie.value) < 4000
    assert "is paused" in visit.text(f"/jobs/{ids[0]}")


# -- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/jobs", "/sign-in", "/static/pages.js", "/nowhere/static"])
def test_every_answer_keeps_out_frames_foreign_scripts_and_guesses(app: flask.Flask, path: str) -> None:
    with Visit(app).get(path) as response:
        headers = response.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    if path != "/nowhere/static":
        assert headers["X-Frame-Options"] == "DENY"


def test_no_page_has_a_script_or_style_within(app: flask.Flask) -> None:
    visit = Visit(app)
    add_instance(app, State.DONE)
    dead = add_instance(app, State.DEAD)
    for path in ("/", "/jobs", f"/jobs/{dead}", "/workers", "/smtp/", "/smtp/new", "/sms/new", "/statistics/"):
        page = visit.text(path)
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|hx-on|<script(?! src=)", page)


def test_static_files_do_not_lead_out_of_their_folder(app: flask.Flask) -> None:
    client = Visit(app).client
    for name in ("../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd"):
        assert client.get(f"/pages/static/{name}").status_code in (308, 404)


def fill_with_evil(app: flask.Flask) -> list[str]:
    """Everything that a stranger, a server or a plugin may put its own text into."""
    storage = storage_of(app)
    session = SessionInfo(f"s{EVIL}", EVIL, 1, storage.now(), EVIL, worker_type=EVIL, keys=(EVIL,), jobs=(EVIL,))
    storage.open_session(session, lease=60_000)
    ids: list[str] = []
    attempt = {"at": 1, "started": 1, "event": "attempt", "attempt": 1, "reason": EVIL, "notes": {EVIL: EVIL}}
    for state in (State.DEAD, State.DONE, State.EXPIRED, State.RUNNING):
        id = f"{state}-{len(ids)}"
        storage.enqueue(NewInstance(id, EVIL, b"e", b"b", EVIL, created=storage.now()), timeout=5)
        (lease,) = storage.step(session.id, [], want=1).leases
        ids.append(id)
        if state is not State.RUNNING:
            entry = json.dumps({**attempt, "outcome": state.value})
            storage.step(session.id, [End(id, lease.token, state, reason=EVIL, error=EVIL, entry=entry)], want=0)
    for id, due in (("waits", None), ("later", storage.now() + 3_600_000)):
        storage.enqueue(NewInstance(id, EVIL, b"e", b"b", EVIL, created=storage.now(), due=due), timeout=5)
        ids.append(id)
    policy = Policy(failures=3, opened=2, reason=EVIL).dumps()
    group = storage.group(EVIL)
    assert group is not None
    storage.set_group(EVIL, version=group.version, limit=1, blocked_until=storage.now() + 60_000, policy=policy)
    values = {"server": "mail.example.com", "description": EVIL, "username": EVIL, "certificate": EVIL}
    open_store(settings_of(app)).save("main", values)
    open_store(settings_of(app)).save(EVIL.replace("/", ""), values)
    gateway = {"url": "https://sms.example.com", "description": EVIL, "parameters": {EVIL: EVIL}, "success": EVIL}
    gateways.open_store(settings_of(app)).save("main", gateway)
    tags = json.dumps({EVIL: EVIL})
    Store.of(settings_of(app)).apply("evil", [[minute(), EVIL, tags, 1, 1000]])
    return ids


def test_no_text_of_a_stranger_becomes_markup(app: flask.Flask) -> None:
    visit = Visit(app)
    site: Site = app.extensions[PAGES]
    with app.test_request_context():
        site.entries = [*site.entries, (EVIL, "pijobs_pages.jobs", Page(EVIL, "jobs", things=EVIL, jobs=EVIL[:1]))]
    ids = fill_with_evil(app)
    query: dict[str, Any] = {"name": EVIL, "group": EVIL, "time": EVIL}
    paths = ["/", "/jobs", *(f"/jobs/{id}" for id in ids), "/workers", "/smtp/", "/smtp/edit/main", "/smtp/delete/main"]
    paths += ["/sms/", "/sms/edit/main", "/statistics/", f"/statistics/?name={quote(EVIL)}"]
    seen = 0
    for path in paths:
        page = visit.text(path)
        seen += "&lt;script&gt;" in page
        assert "<script>alert" not in page and "<img" not in page, path
    assert seen == len(paths)
    pages = [
        visit.client.get("/pages/jobs", query_string=query).text,
        visit.client.get("/pages/jobs/x", query_string=query).text,
        visit.get(f"/jobs/{EVIL}").text,
        visit.post("/jobs/confirm", action="retry", id=ids).text,
        visit.post("/smtp/save", identifier=EVIL, server=EVIL, port=EVIL, new="1").text,
        visit.post("/smtp/test/main", recipient=EVIL).text,
        visit.post("/sms/save", identifier=EVIL, url=EVIL, parameters=EVIL, method=EVIL, provider="http", new="1").text,
        visit.post("/sms/test/main", recipient=EVIL).text,
        visit.client.get("/pages/sms/new", query_string={"provider": EVIL}).text,
        visit.client.get("/pages/statistics/", query_string={"name": EVIL, "per": EVIL}).text,
        Visit(app, None).sign_in(EVIL).text,
    ]
    for page in pages:
        assert "<script>alert" not in page and "<img" not in page


def test_no_text_of_a_server_that_is_examined_becomes_markup(app: flask.Flask) -> None:
    visit = Visit(app)
    for step in ("GREETING", "EHLO"):
        with Sink(faults={step: f"554 5.7.1 {EVIL}"}) as sink:
            values = {"server": sink.host, "port": sink.port, "sender": "a@example.com"}
            open_store(settings_of(app)).save("main", values)
            page = visit.post("/smtp/test/main", recipient="alice@example.com").text
        assert "&lt;script&gt;" in page and "<script>alert" not in page and "<img" not in page


def test_no_text_of_an_sms_gateway_becomes_markup(app: flask.Flask) -> None:
    visit = Visit(app)
    for answer in (Answer(status=400, body=EVIL), Answer(body=EVIL)):
        with Gateway(lambda number, answer=answer: answer) as gateway:  # type: ignore[misc]
            values = {"url": gateway.url, "parameters": {"to": "{phone}"}, "success": "never said"}
            gateways.open_store(settings_of(app)).save("main", values)
            response = visit.post("/sms/test/main", recipient="+491701234567")
        assert response.status_code == 502 and gateway.requests
        assert "<script>alert" not in response.text and "<img" not in response.text


def test_no_page_tells_a_body_an_otp_or_a_whole_address(app: flask.Flask) -> None:
    visit = Visit(app)
    mail = {"server": "main", "to": "alice@example.com", "subject": "Your code", "text": "The code is 490137"}
    queue = app.extensions["pijobs"].queue
    id = queue.enqueue("mail.send", (), mail, expires=3600).id
    for path in ("/", "/jobs", f"/jobs/{id}", "/workers"):
        page = visit.text(path)
        assert all(text not in page for text in ("alice@example.com", "490137", "Your code")), path


def test_an_error_of_ours_tells_nothing_but_its_log(
    app: flask.Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    visit = Visit(app)
    monkeypatch.setattr("pijobs.server.pages.overview.readiness", lambda queue: 1 / 0)
    response = visit.get("/")
    assert response.status_code == 500
    assert "ZeroDivisionError" not in response.text and "Traceback" not in response.text
    assert any(record.exc_info for record in caplog.records)
