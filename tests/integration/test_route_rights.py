"""Each route with each of its methods: who may, who may not, and that none is forgotten here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import flask
import pytest
from integration.served import PASSWORD, Client, make_app, settings_of
from integration.visits import Visit

from pijobs.audit import AuditLog
from pijobs.server.accounts import ROLES, Accounts
from pijobs.server.factors import Factors
from pijobs.server.rights import RIGHT

#: The least role for each route; "": everybody. The receipt wants the password of its gateway instead.
API = {
    "GET /": "", "POST /auth": "", "DELETE /auth": "viewer",
    "GET /livez": "", "GET /readyz": "", "GET /healthz": "", "GET /metrics": "",
    "POST /messages": "helpdesk", "POST /jobs": "admin",
    "GET /api/openapi.json": "", "GET /api/docs": "",
    "GET /jobs": "viewer", "GET /jobs/<id>": "viewer", "GET /jobs/<id>/events": "viewer", "GET /workers": "viewer",
    "GET /groups": "viewer", "GET /schedule": "viewer",
    "POST /groups/pause": "operator", "POST /groups/resume": "operator", "POST /groups/flush": "operator",
    "POST /groups/bypass": "operator", "DELETE /groups/bypass": "operator",
    "POST /workers/quiet": "operator", "DELETE /workers/quiet": "operator",
    "POST /schedule/<identifier>/run": "operator", "POST /schedule/<identifier>/skip": "operator",
    "DELETE /jobs/<id>": "operator", "POST /jobs/<id>/retry": "operator",
    "GET /smtpserver/": "viewer", "POST /smtpserver/<identifier>": "admin", "DELETE /smtpserver/<identifier>": "admin",
    "POST /smtpserver/send_test_email": "admin",
    "GET /smsgateway/": "viewer", "POST /smsgateway/<identifier>": "admin", "DELETE /smsgateway/<identifier>": "admin",
    "POST /smsgateway/send_test_sms": "admin",
    "GET /smsgateway/<identifier>/receipt": "", "POST /smsgateway/<identifier>/receipt": "",
    "GET /statistics": "viewer",
}  # fmt: skip
#: Below /pages. "half": the password was right, the second factor is still to come.
PAGES = {
    "GET /static/<path:name>": "", "GET /logo": "", "GET /colours.css": "",
    "GET /sign-in": "", "POST /sign-in": "", "POST /sign-out": "",
    "GET /second-factor": "half", "POST /second-factor": "half", "POST /factors/add": "half",
    "GET /": "helpdesk", "GET /messages": "helpdesk", "POST /messages": "helpdesk",
    "GET /jobs": "viewer", "GET /jobs/<id>": "viewer", "GET /workers": "viewer",
    "GET /failures": "viewer", "GET /events": "viewer",
    "POST /schedule/<identifier>": "operator",
    "GET /schedule": "viewer", "GET /audit": "admin",
    "GET /prove": "helpdesk", "POST /prove": "helpdesk",
    "GET /account": "helpdesk", "POST /account/end": "helpdesk", "POST /account/end-all": "helpdesk",
    "GET /factors/new": "helpdesk", "POST /factors/remove": "helpdesk", "POST /factors/codes": "helpdesk",
    "POST /jobs/confirm": "operator", "POST /jobs/act": "operator",
    "POST /workers/pause": "operator", "POST /workers/resume": "operator",
    "POST /workers/flush": "operator", "POST /workers/bypass": "operator", "POST /workers/bypass/end": "operator",
    "POST /workers/quiet": "operator",
    "GET /tokens": "admin", "GET /tokens/new": "admin", "POST /tokens/new": "admin", "POST /tokens/remove": "admin",
    "GET /statistics/": "viewer", "GET /statistics/csv": "viewer",
    **{
        f"{method} /{name}{path}": role
        for name in ("smtp", "sms")
        for method, path, role in (
            ("GET", "/", "viewer"), ("GET", "/new", "admin"), ("GET", "/edit/<identifier>", "admin"),
            ("POST", "/save", "admin"), ("POST", "/test/<identifier>", "admin"),
            ("POST", "/probe/<identifier>", "admin"),
            ("GET", "/delete/<identifier>", "admin"), ("POST", "/delete/<identifier>", "admin"),
        )
    },
}  # fmt: skip
#: Each of them, and the methods that no route takes, so that none works without being meant.
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> flask.Flask:
    folder: Path = tmp_path_factory.mktemp("rights")
    return make_app(folder, PLUGINS=("mail", "sms", "statistics"), STATISTICS_JOURNAL=str(folder / "journal"))


def routes(app: flask.Flask) -> Iterator[tuple[str, str, str]]:
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            yield method, rule.rule, rule.endpoint


def address(rule: str) -> str:
    return rule.replace("<id>", "x").replace("<identifier>", "nobody").replace("<path:name>", "pages.js")


def test_every_route_stands_in_the_table_with_the_role_that_its_view_declares(app: flask.Flask) -> None:
    table = {**API, **{key.replace(" ", " /pages", 1): role for key, role in PAGES.items()}}
    assert {f"{method} {rule}" for method, rule, _ in routes(app)} == set(table)
    for method, rule, endpoint in routes(app):
        least = table[f"{method} {rule}"]
        if least in ROLES and rule != "/auth":
            assert getattr(app.view_functions[endpoint], RIGHT) == least, rule


@pytest.mark.parametrize("token", [None, "", "Bearer ", "x" * 43, "eyJ0eXAiOiJKV1QifQ.e30.x", "\u00fc" * 43])
def test_without_a_token_of_ours_no_route_of_the_api_does_anything(app: flask.Flask, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": token.encode().decode("latin-1")}
    for key, least in API.items():
        if least:
            method, _, rule = key.partition(" ")
            answer = app.test_client().open(address(rule), method=method, headers=headers)
            assert answer.status_code == 401, key


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_the_table_says_and_no_more(app: flask.Flask, role: str) -> None:
    client = Client(app, role)
    for key, least in API.items():
        method, _, rule = key.partition(" ")
        if least and rule != "/auth":
            status = client.ask(method, address(rule)).status_code
            assert (status == 403) == (ROLES.index(role) < ROLES.index(least)), (key, status)
            assert status not in (401, 500), (key, status)


def test_a_method_that_no_route_takes_does_nothing_for_an_admin_either(app: flask.Flask) -> None:
    client = Client(app, "admin")
    for rule in {rule for _, rule, _ in routes(app)}:
        taken = {method for method, other, _ in routes(app) if address(other) == address(rule)}
        for method in set(METHODS) - taken:
            status = client.ask(method, address(rule)).status_code
            # Another rule may fit the same address: /smtpserver/<identifier>; /jobs/<id>, which asks to sign in.
            assert status in (400, 404, 405, 302 if rule.startswith("/pages/") else 404), (method, rule, status)


def test_a_session_of_the_pages_is_no_token_and_a_token_no_session(app: flask.Flask) -> None:
    visit, client = Visit(app), Client(app, "admin")
    for key, least in API.items():
        if least:
            method, _, rule = key.partition(" ")
            assert visit.client.open(address(rule), method=method).status_code == 401, key
    for key, least in PAGES.items():
        if least and key.startswith("GET"):
            status = client.ask("GET", f"/pages{address(key.partition(' ')[2])}").status_code
            assert status == 302, key


def test_who_gave_the_password_alone_gets_no_further_than_the_second_factor(app: flask.Flask) -> None:
    Accounts.of(settings_of(app)).add("half", PASSWORD, "admin")
    Factors.of(settings_of(app)).require("half", True)
    visit = Visit(app, None)
    visit.sign_in("half")
    for key, least in PAGES.items():
        method, _, rule = key.partition(" ")
        if least in ROLES:
            path = f"/pages{address(rule)}"
            token = visit.token("/second-factor")
            answer = visit.client.open(path, method=method, data={"csrf_token": token} if method == "POST" else None)
            assert answer.status_code in (302, 303), (key, answer.status_code)
            assert "/pages/second-factor" in answer.headers["Location"], key
    assert app.test_client().post("/auth", json={"username": "half", "password": PASSWORD}).status_code == 400


def test_a_secret_field_is_refused_in_the_address_as_a_password_is(app: flask.Flask) -> None:
    client = Client(app, "admin")
    for path, names in (
        ("/smtpserver/new", ("password", "private_key_password", "oauth_client_secret")),
        ("/smtpserver/send_test_email", ("password", "oauth_refresh_token")),
        ("/smsgateway/new", ("headers", "parameters", "body", "url", "password", "proxy_password", "receipt_password")),
    ):
        for name in names:
            answer = client.ask("POST", path, **{name: "SEKRET", "provider": "http", "server": "127.0.0.1"})
            assert answer.status_code == 400 and f"{name}: expected it in the body" in answer.text, (path, name)
            assert "SEKRET" not in answer.text
    for name in ("otp", "OTP", "pin", "pwd", "credential", "api-key"):
        answer = app.test_client().post(f"/auth?{name}=123456", json={"username": "admin", "password": PASSWORD})
        assert answer.status_code == 400 and "123456" not in answer.text, name


def test_a_test_of_a_destination_stands_in_the_audit_log_whichever_way_it_is_sent(app: flask.Flask) -> None:
    client = Client(app, "admin")
    client.ask("POST", "/smtpserver/send_test_email", server="127.0.0.1", port="1", recipient="a@example.com")
    client.ask("POST", "/smsgateway/send_test_sms", identifier="nobody", phone="+4917012345678")
    acts = [(link.content["act"], link.content["on"]) for link in AuditLog.of(settings_of(app)).newest(limit=2)]
    assert acts == [("definition.test", "smsgateway nobody"), ("definition.test", "smtpserver (not saved)")]


def test_the_cookie_of_tls_is_bound_to_its_host_whatever_the_settings_say(app: flask.Flask) -> None:
    app.config.update(SESSION_COOKIE_DOMAIN="example.com", SESSION_COOKIE_PATH="/pages")
    try:
        cookie = app.test_client().get("/pages/sign-in", base_url="https://localhost").headers["Set-Cookie"]
    finally:
        app.config.update(SESSION_COOKIE_DOMAIN=None, SESSION_COOKIE_PATH=None)
    # Else browsers refuse it (RFC 6265bis, 4.1.3.2).
    assert cookie.startswith("__Host-pijobs=") and "Domain" not in cookie and "Path=/;" in f"{cookie};"
