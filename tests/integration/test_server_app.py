"""The server as a whole: who may ask what, what errors look like, and that one bad plugin does not take it down."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import flask
import pytest
from integration.served import PASSWORD, Client, error_of, make_app, settings_of, value_of

from pijobs.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DefinitionError,
    DefinitionNotFound,
    DefinitionUnreadable,
    StorageUnavailable,
)
from pijobs.server import create_app
from pijobs.server.accounts import ROLES, Accounts
from pijobs.server.api import ApiError, answer, parameters
from pijobs.server.rights import RIGHT, requires

#: What may be asked by everybody; nothing is added here without a reason.
PUBLIC = {"/auth", "/livez", "/readyz", "/healthz", "/metrics", "/"}
PUBLIC |= {"/pages/second-factor", "/pages/factors/add"}  # between password and session
PUBLIC |= {"/api/openapi.json", "/api/docs"}  # what anybody reads in the documentation
PUBLIC |= {"/pages/colours.css", "/pages/logo"}  # the page of signing in has them, too
PUBLIC |= {"/pages/sign-in", "/pages/sign-out", "/pages/static/<path:name>"}
PLUGIN = "routes_under_test"


@pytest.fixture
def app(tmp_path: Path) -> flask.Flask:
    return make_app(tmp_path)


@pytest.fixture
def write_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Write the module of a plugin; it is forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, PLUGIN, raising=False)

    def write(source: str) -> None:
        (tmp_path / f"{PLUGIN}.py").write_text(source)

    yield write
    monkeypatch.delitem(sys.modules, PLUGIN, raising=False)


#: What everybody may do with one's own sessions.
OWN_SESSIONS = {"/pages/account/end", "/pages/account/end-all", "/pages/prove"}
OWN_SESSIONS |= {"/pages/factors/remove", "/pages/factors/codes"}
#: These change nothing; whom somebody looks for must not stand in an address.
LOOKS = {"/messages", "/pages/messages"}


def rights(app: flask.Flask) -> dict[str, str | None]:
    """What each route requires."""
    return {
        f"{sorted(rule.methods or ())} {rule.rule}": getattr(app.view_functions[rule.endpoint], RIGHT, None)
        for rule in app.url_map.iter_rules()
        if rule.rule not in PUBLIC
    }


@pytest.mark.parametrize("plugins", [(), ("mail",)])
def test_every_route_requires_a_right_or_is_public_on_purpose(tmp_path: Path, plugins: tuple[str, ...]) -> None:
    found = rights(make_app(tmp_path, PLUGINS=plugins))
    assert len(found) >= 6
    assert {route for route, right in found.items() if right not in ROLES} == set()


def test_what_changes_something_is_not_for_viewers(app: flask.Flask) -> None:
    lookers = ("helpdesk", "viewer")
    changing = {route.split()[-1] for route, right in rights(app).items() if right in lookers and "GET" not in route}
    assert changing == OWN_SESSIONS | LOOKS


def test_public_routes_are_there(app: flask.Flask) -> None:
    assert {rule.rule for rule in app.url_map.iter_rules()} >= PUBLIC


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/metrics", "/jobs", "/nowhere", "/auth"])
def test_every_answer_carries_the_security_headers(app: flask.Flask, path: str) -> None:
    headers = app.test_client().get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nowhere", (404, 601)),
        ("GET", "/auth", (405, 405)),
        ("GET", "/jobs", (401, 4033)),
        ("POST", "/auth", (400, 905)),
    ],
)
def test_an_error_comes_in_the_envelope(app: flask.Flask, method: str, path: str, expected: tuple[int, int]) -> None:
    assert error_of(app.test_client().open(path, method=method)) == expected


def test_a_body_that_is_no_json_object_is_refused(app: flask.Flask) -> None:
    for body in ("[]", "{", "1"):
        response = app.test_client().post("/auth", data=body, content_type="application/json")
        assert error_of(response) == (400, 905)


def test_a_body_that_is_nested_too_deep_is_refused(app: flask.Flask) -> None:
    response = app.test_client().post("/auth", data="[" * 100_000, content_type="application/json")
    assert error_of(response) == (400, 905)


def test_a_body_that_is_too_large_is_refused(app: flask.Flask) -> None:
    response = app.test_client().post("/auth", json={"username": "x" * 2_000_000, "password": "y"})
    assert error_of(response) == (413, 413)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("the password is hunter2"), (500, -500)),
        (StorageUnavailable(), (503, 503)),
        (DatabaseUnavailable(), (503, 503)),
        (DefinitionError(["port: expected a whole number, found 'x'"]), (400, 905)),
        (DefinitionNotFound("smtpserver", "main"), (404, 601)),
        (DefinitionUnreadable("smtpserver", "main", {"password": "unknown key"}), (500, 903)),
        (ApiError(418, 905, "a teapot"), (418, 905)),
    ],
)
def test_what_a_view_raises_becomes_an_answer(
    app: flask.Flask, error: Exception, expected: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> str:
        raise error

    app.add_url_rule("/fails", view_func=fail)
    with caplog.at_level(logging.CRITICAL):
        response = app.test_client().get("/fails")
    assert error_of(response) == expected
    assert b"hunter2" not in response.data
    assert b"Traceback" not in response.data


def test_an_error_of_ours_is_in_the_log(app: flask.Flask, caplog: pytest.LogCaptureFixture) -> None:
    app.add_url_rule("/fails", view_func=lambda: str(1 / 0))
    app.test_client().get("/fails")
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["GET /fails failed"]


def test_parameters_come_from_query_form_and_json(app: flask.Flask) -> None:
    app.add_url_rule("/echo", view_func=lambda: answer(parameters()), methods=["POST"])
    client = app.test_client()
    assert value_of(client.post("/echo?a=1", data={"b": "2"})) == {"a": "1", "b": "2"}
    assert value_of(client.post("/echo?a=1", json={"a": 2})) == {"a": 2}
    assert value_of(client.post("/echo", content_type="application/json")) == {}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_those_before_it_may(app: flask.Flask, role: str) -> None:
    for right in ROLES:
        view = requires(right)(lambda: answer(flask.g.account.name))
        app.add_url_rule(f"/for/{right}", endpoint=right, view_func=view)
    client = Client(app, role)
    for right in ROLES:
        response = client.ask("GET", f"/for/{right}")
        if ROLES.index(right) <= ROLES.index(role):
            assert value_of(response) == role
        else:
            assert error_of(response) == (403, 303)


BLUEPRINTS = """
import flask
from pijobs import hookimpl
from pijobs.server.api import answer

@hookimpl
def register_blueprints(app):
    {first}
    blueprint = flask.Blueprint("under_test", __name__)
    blueprint.get("/under-test")(lambda: answer("from the plugin"))
    return [blueprint, {second}]
"""


def test_a_plugin_brings_its_routes(tmp_path: Path, write_plugin: Callable[[str], None]) -> None:
    write_plugin(BLUEPRINTS.format(first="", second=""))
    app = make_app(tmp_path, PLUGINS=(PLUGIN,))
    assert value_of(app.test_client().get("/under-test")) == "from the plugin"


@pytest.mark.parametrize("fault", [{"first": "1 / 0", "second": ""}, {"first": "", "second": "'no blueprint'"}])
def test_the_server_starts_without_the_routes_of_a_broken_plugin(
    tmp_path: Path, write_plugin: Callable[[str], None], fault: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(BLUEPRINTS.format(**fault))
    app = make_app(tmp_path, PLUGINS=(PLUGIN,))
    assert app.test_client().get("/livez").status_code == 200
    assert any(PLUGIN in record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)


def test_the_settings_are_read_from_the_file(tmp_path: Path) -> None:
    config = tmp_path / "pi.cfg"
    config.write_text("SECRET_KEY = 'from the file, long enough'\nPI_JOB_QUEUE_PLUGINS = ()\n")
    config.chmod(0o600)
    app = create_app(config)
    assert settings_of(app)["SECRET_KEY"] == "from the file, long enough"
    Accounts.of(settings_of(app)).add("alice", PASSWORD, "admin")
    assert (tmp_path / "pijobs.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_server_needs_a_secret_key() -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        create_app(settings={"PI_JOB_QUEUE_PLUGINS": ()})


def test_a_server_without_a_queue_says_so(tmp_path: Path) -> None:
    client = Client(make_app(tmp_path, CLASS=""), "viewer")
    response = client.ask("GET", "/jobs")
    assert error_of(response) == (409, 409)
    assert "PI_JOB_QUEUE_CLASS" in json.dumps(response.json)


@pytest.mark.parametrize("name", ["password", "PASSWORD", "new_password", "oauth_client_secret", "token", "api_key"])
def test_a_secret_in_the_address_is_refused_on_every_route(app: flask.Flask, name: str) -> None:
    client = app.test_client()
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if rule.endpoint == "static" or getattr(view, "secret_in_address", False):
            continue
        path = re.sub("<[^>]*>", "x", rule.rule)
        method = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})[0]
        response = client.open(f"{path}?{name}=hunter2", method=method)
        assert response.status_code == 400, path
        assert b"hunter2" not in response.data


@pytest.mark.parametrize(("key", "size"), [("x", 1), ("k" * 23, 23), ("\u00e9" * 11, 22), (b"k" * 23, 23)])
def test_a_key_that_can_be_guessed_is_refused(key: str | bytes, size: int) -> None:
    with pytest.raises(ConfigurationError, match=f"SECRET_KEY: expected at least 24 bytes, found {size}"):
        create_app(settings={"SECRET_KEY": key, "PI_JOB_QUEUE_PLUGINS": ()})


def test_a_newest_payload_key_that_can_be_guessed_is_refused() -> None:
    settings = {"SECRET_KEY": "k" * 32, "PI_JOB_QUEUE_PLUGINS": ()}
    with pytest.raises(ConfigurationError, match="PI_JOB_QUEUE_KEYS: expected at least 24 bytes, found 5"):
        create_app(settings={**settings, "PI_JOB_QUEUE_KEYS": ["short"]})
    create_app(settings={**settings, "PI_JOB_QUEUE_KEYS": ["n" * 24, "short"]})


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("redis://redis.example.com:6379/0", True), ("redis://redis.example.com/0", True), ("redis://10.0.0.1/0", True),
        ("redis+sentinel://a:1,b:2/service/0", True), ("redis+sentinel://127.0.0.1:1,b:2/service/0", True),
        ("redis://:hunter2@redis.example.com/0", True), ("rediss://redis.example.com/0", True),
        ("redis://redis.example.com/0?password=hunter2", True), ("redis://localhost:1/0", False),
        ("rediss://:hunter2@redis.example.com/0", False),
        ("redis://127.0.0.1:1/0", False), ("redis://[::1]:1/0", False), ("unix:///run/redis.sock", False),
    ],
)  # fmt: skip
def test_a_redis_elsewhere_that_lets_anybody_in_is_refused(tmp_path: Path, url: str, refused: bool) -> None:
    settings = {
        "SECRET_KEY": "k" * 32, "PI_JOB_QUEUE_PLUGINS": (), "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue",
        "PI_JOB_QUEUE_URL": url, "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/x.sqlite",
    }  # fmt: skip
    if not refused:
        create_app(settings=settings)
        return
    with pytest.raises(
        ConfigurationError, match="this server sends nothing unencrypted to other machines: Redis is on another machine"
    ):
        create_app(settings=settings)
