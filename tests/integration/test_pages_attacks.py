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
from integration.served import PASSWORD, Client, add_instance, make_app, settings_of, storage_of
from integration.visits import Visit
from sms_gateway import Answer, Gateway

from pijobs.database import Database
from pijobs.execution.groups import Policy
from pijobs.jobs import State
from pijobs.plugins.hookspecs import Page
from pijobs.server import create_app
from pijobs.server.accounts import Account, Accounts, Role
from pijobs.server.auth import RECENT
from pijobs.server.host import HostSignIn
from pijobs.server.pages.site import Site
from pijobs.server.pages.web_session import PAGES
from pijobs.server.sessions import IDLE, LIFETIMES, Sessions
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End, NewInstance
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.sink.server import Sink
from pijobs_sms import gateways
from pijobs_statistics.store import Store
from pijobs_statistics.values import minute

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
#: What changes something, with the least role that may: none of it is done for others, or without the token.
CHANGES = {
    "/jobs/confirm": "operator", "/jobs/act": "operator", "/workers/pause": "operator", "/workers/resume": "operator",
    "/workers/flush": "operator", "/workers/bypass": "operator", "/workers/bypass/end": "operator",
    "/workers/quiet": "operator", "/tokens/new": "admin", "/tokens/remove": "admin",
    "/schedule/main": "operator", "/messages": "helpdesk",
    "/account/end": "helpdesk", "/account/end-all": "helpdesk", "/prove": "helpdesk",
    "/factors/remove": "helpdesk", "/factors/codes": "helpdesk",
    "/smtp/save": "admin", "/smtp/test/main": "admin", "/smtp/probe/main": "admin", "/smtp/delete/main": "admin",
    "/sms/save": "admin", "/sms/test/main": "admin", "/sms/probe/main": "admin", "/sms/delete/main": "admin",
}  # fmt: skip

#: What changes something before somebody is signed in.
SIGNING_IN = ("/sign-in", "/sign-out", "/second-factor", "/factors/add")


@pytest.fixture
def app(tmp_path: Path) -> flask.Flask:
    return make_app(tmp_path, PLUGINS=("mail", "sms", "statistics"), STATISTICS_JOURNAL=str(tmp_path / "journal"))


def changing_routes(app: flask.Flask) -> set[str]:
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/pages/") and "POST" in rule.methods]  # type: ignore[operator]
    return {rule.rule.removeprefix("/pages").replace("<identifier>", "main") for rule in rules}


def test_every_route_that_changes_something_is_tried_here(app: flask.Flask) -> None:
    assert changing_routes(app) == {*CHANGES, *SIGNING_IN}


@pytest.mark.parametrize("token", [None, "", "guessed", "ünïcode"])
def test_a_form_of_another_site_is_refused(app: flask.Flask, token: str | None) -> None:
    visit = Visit(app)
    id = add_instance(app)
    fields = {"action": "cancel", "id": id, "username": "admin", "password": PASSWORD}
    for path in (*CHANGES, *SIGNING_IN):
        response = visit.client.post(f"/pages{path}", data=fields if token is None else {**fields, "csrf_token": token})
        assert response.status_code == 400, path
        assert storage_of(app).get(id).state is State.QUEUED, path
        assert not storage_of(app).depths().paused, path
        assert visit.get("/").status_code == 200, path


def test_a_token_of_somebody_else_is_refused(app: flask.Flask) -> None:
    other = Visit(app, "viewer").token()
    response = Visit(app).client.post("/pages/workers/pause", data={"csrf_token": other})
    assert response.status_code == 400


def test_every_form_carries_the_token(app: flask.Flask) -> None:
    visit = Visit(app)
    open_store(settings_of(app)).save("main", {"server": "smtps://mail.example.com"})
    waiting = add_instance(app)
    for path in ("/", "/jobs", f"/jobs/{waiting}", "/workers", "/smtp/new", "/smtp/edit/main", "/smtp/delete/main"):
        forms = re.findall(r'<form[^>]*method="post".*?</form>', visit.text(path), re.S)
        assert forms
        assert all("csrf_token" in form for form in forms)


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_a_role_can_not_do_what_is_above_it(app: flask.Flask, role: str) -> None:
    open_store(settings_of(app)).save("main", {"server": "smtps://mail.example.com"})
    visit = Visit(app, role)
    for path, least in ((path, least) for path, least in CHANGES.items() if least != "helpdesk"):
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


def test_a_session_ends_with_its_password_its_account_and_its_sign_out(app: flask.Flask) -> None:
    accounts = Accounts.of(settings_of(app))
    visits = {role: Visit(app, role) for role in ("viewer", "operator", "admin")}
    accounts.set_password("viewer", "another password")
    accounts.remove("operator")
    visits["admin"].post("/sign-out")
    assert [visit.get("/").status_code for visit in visits.values()] == [302, 302, 302]


class Clock:
    """Of sessions; seconds."""

    def __init__(self, app: flask.Flask) -> None:
        self.now, settings = time.time(), settings_of(app)
        settings.resource(Sessions, lambda: Sessions(Database.of(settings), lambda: self.now))


@pytest.fixture
def clock(app: flask.Flask) -> Clock:
    return Clock(app)


def test_a_session_that_nobody_uses_ends_after_half_an_hour(app: flask.Flask, clock: Clock) -> None:
    visit = Visit(app)
    for _ in range(3):
        clock.now += IDLE - 60
        assert visit.get("/").status_code == 200
    clock.now += IDLE + 60
    assert visit.get("/").status_code == 302


def test_a_page_that_renews_itself_keeps_no_session_alive(app: flask.Flask, clock: Clock) -> None:
    visit = Visit(app)
    clock.now += IDLE - 60
    assert visit.get("/account", **{"HX-Request": "true"}).status_code == 200
    clock.now += 120
    assert visit.get("/account", **{"HX-Request": "true"}).status_code == 401


def test_a_session_in_use_ends_after_its_time(app: flask.Flask, clock: Clock) -> None:
    visit, end = Visit(app), clock.now + LIFETIMES["pages"]
    while clock.now + IDLE - 60 <= end:
        assert visit.get("/account").status_code == 200
        clock.now += IDLE - 60
    clock.now = end + 60
    assert visit.get("/account").status_code == 302


def test_a_copied_cookie_is_worth_nothing_after_signing_out(app: flask.Flask) -> None:
    visit = Visit(app)
    cookie = visit.client.get_cookie("pijobs")
    assert cookie is not None
    thief = Visit(app, None)
    thief.client.set_cookie("pijobs", cookie.value)
    assert thief.get("/").status_code == 200
    visit.post("/sign-out")
    assert thief.get("/").status_code == 302


def test_signing_in_again_ends_the_session_before(app: flask.Flask) -> None:
    visit = Visit(app)
    cookie = visit.client.get_cookie("pijobs")
    assert cookie is not None
    visit.client.post("/pages/sign-in", data={"csrf_token": visit.token(), "username": "admin", "password": PASSWORD})
    thief = Visit(app, None)
    thief.client.set_cookie("pijobs", cookie.value)
    assert (visit.get("/").status_code, thief.get("/").status_code) == (200, 302)


def test_people_see_and_end_their_own_sessions_and_nobody_elses(app: flask.Flask) -> None:
    here, there, other = Visit(app), Visit(app), Visit(app, "viewer")
    token = Client(app, "admin")
    ids = re.findall(r'name="id" value="([0-9a-f]{64})"', here.text("/account"))
    assert len(ids) == 3
    assert len(re.findall(r'name="id"', other.text("/account"))) == 1
    for id in ids:
        other.post("/account/end", id=id)
    assert there.get("/").status_code == 200
    (own,) = re.findall(r'name="id" value="([0-9a-f]{64})"', other.text("/account"))
    here.post("/account/end", id=own)
    assert other.get("/").status_code == 200
    rest = [id for id in ids if f'"{id}"' not in _row_of_this_one(here)]
    for id in rest:
        here.post("/account/end", form_of="/account", id=id)
    assert [visit.get("/").status_code for visit in (here, there)] == [200, 302]
    assert token.ask("GET", "/workers").status_code == 401


def _row_of_this_one(visit: Visit) -> str:
    return next(row for row in visit.text("/account").split("<tr>") if "this one" in row)


def test_signing_out_everywhere_leaves_nothing_open(app: flask.Flask) -> None:
    visits, token, other = [Visit(app), Visit(app)], Client(app, "admin"), Visit(app, "viewer")
    visits[0].post("/account/end-all")
    assert [visit.get("/").status_code for visit in visits] == [302, 302]
    assert token.ask("GET", "/workers").status_code == 401
    assert other.get("/").status_code == 200


def test_a_destination_is_changed_by_somebody_who_gave_the_password_lately(app: flask.Flask, clock: Clock) -> None:
    open_store(settings_of(app)).save("main", {"server": "smtps://mail.example.com"})
    visit = Visit(app)
    assert visit.get("/smtp/edit/main").status_code == 200
    clock.now += RECENT + 60
    asked = visit.get("/smtp/edit/main")
    assert asked.headers["Location"] == "/pages/prove?next=/pages/smtp/edit/main"
    fields = {"identifier": "main", "server": "smtps://mx.evil.example"}
    # A form that was opened in time is still taken.
    assert "edit/main" in visit.post("/smtp/save", **fields).headers["Location"]
    for _ in range(2):  # in use all the time
        clock.now += RECENT
        visit.get("/")
    for path in ("/smtp/save", "/smtp/delete/main"):
        assert visit.post(path, **fields).headers["Location"].startswith("/pages/prove")
    assert "main" in open_store(settings_of(app)).list()
    wrong = visit.post("/prove", form_of="/prove", password="guessed", next="/pages/smtp/edit/main")
    assert wrong.status_code == 401 and visit.get("/smtp/edit/main").status_code == 303
    right = visit.post("/prove", form_of="/prove", password=PASSWORD, next="/pages/smtp/edit/main")
    assert right.headers["Location"] == "/pages/smtp/edit/main"
    assert visit.get("/smtp/edit/main").status_code == 200


def test_a_password_of_another_account_proves_nothing(app: flask.Flask, clock: Clock) -> None:
    Accounts.of(settings_of(app)).add("other", "quite another password", "admin")
    visit = Visit(app)
    clock.now += RECENT + 60
    response = visit.post("/prove", form_of="/prove", username="other", password="quite another password")
    assert response.status_code == 401


def test_over_tls_the_cookie_is_bound_to_the_host(app: flask.Flask) -> None:
    cookie = app.test_client().get("/pages/sign-in", base_url="https://localhost").headers["Set-Cookie"]
    assert cookie.startswith("__Host-pijobs=")
    assert "Secure" in cookie and "Path=/" in cookie and "Domain" not in cookie


class People:
    """Administrators of a host, by name."""

    def __init__(self, **roles: Role) -> None:
        self.accounts = {name: Account(name, "a hash", role, 0) for name, role in roles.items()}

    def sign_in(self) -> HostSignIn:
        return HostSignIn(
            lambda token: self.accounts.get(token.partition(":")[0]),
            lambda name, password: self.accounts.get(name),
            lambda name: self.accounts.get(name),
            replaces=["mail"],
        )


def hosted(tmp_path: Path, people: People, *plugins: str) -> flask.Flask:
    settings = {
        "SECRET_KEY": "s",
        "PI_JOB_QUEUE_PLUGINS": plugins,
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/x",
    }
    return create_app(settings=settings, host_sign_in=people.sign_in())


def test_a_host_has_the_pages_of_plugins_but_of_those_that_it_replaces(tmp_path: Path) -> None:
    app = hosted(tmp_path, People(root="viewer"), "mail", "statistics")
    visit = Visit(app, None)
    assert app.test_client().get("/statistics").status_code == 401
    visit.sign_in("root")
    assert visit.get("/statistics/").status_code == 200
    assert visit.get("/smtp/").status_code == 404


@pytest.mark.parametrize(
    "now", [None, Account("root", "another hash", "operator", 0), Account("root", "a hash", "viewer", 0)]
)
def test_a_host_ends_sessions_by_removal_password_and_role(tmp_path: Path, now: Account | None) -> None:
    people = People(root="operator")
    app = hosted(tmp_path, people)
    visit, token = Visit(app, None), {"Authorization": "root:a token of the host"}
    assert visit.sign_in("root").status_code == 303
    assert visit.get("/").status_code == 200
    assert app.test_client().get("/workers", headers=token).status_code == 409  # no queue
    people.accounts = {} if now is None else {"root": now}
    assert visit.get("/").status_code == 302
    assert app.test_client().get("/workers", headers=token).status_code == 401
    assert visit.get("/jobs", **{"HX-Request": "true"}).status_code == 401


def test_a_token_of_a_host_is_ended_by_signing_out_everywhere(tmp_path: Path) -> None:
    app = hosted(tmp_path, People(root="operator"))
    visit, token = Visit(app, None), {"Authorization": "root:a token of the host"}
    visit.sign_in("root")
    assert app.test_client().get("/workers", headers=token).status_code == 409
    visit.post("/account/end-all")
    assert app.test_client().get("/workers", headers=token).status_code == 401


def test_a_token_of_a_host_that_was_ended_does_not_begin_anew_after_an_hour(tmp_path: Path) -> None:
    app = hosted(tmp_path, People(root="operator"))
    clock, token = Clock(app), {"Authorization": "root:a token of the host, which lives for days"}
    assert app.test_client().get("/workers", headers=token).status_code == 409
    Sessions.of(settings_of(app)).end_all("root")
    for _ in range(30):
        clock.now += 24 * 3600
        # Others sign in, by which is cleared away what is over.
        Sessions.of(settings_of(app)).begin("other", "f", "pages", address="", agent="")
        assert app.test_client().get("/workers", headers=token).status_code == 401


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 409)])
def test_what_somebody_of_a_host_may_do_is_told_by_the_host(tmp_path: Path, role: Role, status: int) -> None:
    app = hosted(tmp_path, People(root=role))
    visit, token = Visit(app, None), {"Authorization": "root:a token of the host"}
    visit.sign_in("root")
    assert visit.post("/workers/pause").status_code == status
    assert app.test_client().post("/jobs/x/retry", headers=token).status_code == status


def test_guessing_a_password_ends_after_some_tries(app: flask.Flask) -> None:
    visit = Visit(app, None)
    Accounts.of(settings_of(app)).add("root", PASSWORD, "admin")
    statuses = [visit.sign_in("root", f"guess {number}").status_code for number in range(12)]
    assert statuses[0] == 401 and statuses[-1] == 429


#: Where nobody is led after signing in.
ELSEWHERE = (
    "https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)",
    "/pages/../../evil", "/pages/%2e%2e/evil", "/pages/.%2E/evil",
    "/evil", "https:/pages/", "/pages/\n//evil.example", "http://localhost/pages/", "pages/",
    "///pages/", "////pages/jobs", "/%2fpages/", "%2fpages/", "//pages/", " //evil.example/pages/",
    "/\t/evil.example",
)  # fmt: skip


def test_nobody_is_led_elsewhere_after_signing_in(app: flask.Flask) -> None:
    Accounts.of(settings_of(app)).add("root", PASSWORD, "admin")
    for target in ELSEWHERE:
        visit = Visit(app, None)
        assert visit.sign_in("root", next=target).headers["Location"] == "/pages/", target
        location = visit.client.get("/pages/sign-in", query_string={"next": target}).headers["Location"]
        assert location == "/pages/", target


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
    values = {"server": "smtps://mail.example.com", "description": EVIL, "username": EVIL, "certificate": EVIL}
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
