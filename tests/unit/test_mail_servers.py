"""SMTP server definitions: what they accept, and what they mean to the engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pijobs import Limits
from pijobs.database import Database
from pijobs.definitions.tables import table
from pijobs.errors import DefinitionError
from pijobs.settings import CORE_SETTINGS, Settings, validate
from pijobs_mail.servers.definitions import PREFIX, SETTINGS, endpoint, limits_of, open_store, servers_check
from pijobs_mail.servers.server_address import parse_server, with_port


@pytest.fixture
def settings(tmp_path: Any) -> Settings:
    return make_settings(tmp_path)


def make_settings(directory: Any, **values: Any) -> Settings:
    return validate({"SECRET_KEY": "x" * 32, **values}, [*CORE_SETTINGS, *SETTINGS], directory=directory)


def checked(settings: Settings, **values: Any) -> dict[str, Any]:
    return open_store(settings).check({"server": "mail.example.com", **values})


@pytest.mark.parametrize(
    ("server", "parsed"),
    [
        ("mail.example.com", ("smtp", "mail.example.com", None)),
        ("smtp://mail.example.com", ("smtp", "mail.example.com", None)),
        ("smtps://mail.example.com:8465", ("smtps", "mail.example.com", 8465)),
        ("smtps://mail.example.com/", ("smtps", "mail.example.com", None)),
        ("192.0.2.1", ("smtp", "192.0.2.1", None)),
        ("::1", ("smtp", "::1", None)),
        ("smtp://[::1]:2525", ("smtp", "::1", 2525)),
        # As privacyIDEA takes them
        ("mail.example.com:587", ("smtp", "mail.example.com", 587)),
        ("[2001:db8::1]:25", ("smtp", "2001:db8::1", 25)),
        ("//mail.example.com:587", ("smtp", "mail.example.com", 587)),
        (" Mail.Example.com/ ", ("smtp", "mail.example.com", None)),
        ("smtp://user:password@mail.example.com/path", ("smtp", "mail.example.com", None)),
        ("mail.bücher.example", ("smtp", "mail.xn--bcher-kva.example", None)),
        ("my_host.", ("smtp", "my_host", None)),
    ],
)
def test_a_server_is_a_host_or_a_url(server: str, parsed: tuple[str, str, int | None]) -> None:
    assert parse_server(server) == parsed


@pytest.mark.parametrize(
    "server",
    [
        "",
        "http://x",
        "smtp://",
        "a b",
        "a\r\nb",
        "smtp://u:p@host",
        "smtp://host/path",
        "smtp://h:99999",
        "-x",
        "h:x",
        "a..b",
        "smtp:h",
    ],
)
def test_what_is_no_server_is_refused(server: str, settings: Settings) -> None:
    with pytest.raises(DefinitionError, match="server"):
        checked(settings, server=server)


@pytest.mark.parametrize(
    ("values", "port"),
    [
        ({"server": "smtps://h"}, 465),
        ({"server": "smtp://h", "port": ""}, 25),
        ({"server": "h"}, None),
        ({"server": "smtps://h", "port": 25}, 25),
    ],
)
def test_the_port_follows_the_scheme_unless_it_is_given(values: dict[str, Any], port: int | None) -> None:
    assert with_port(values).get("port") == port


@pytest.mark.parametrize(
    "fault",
    [
        {"port": 0},
        {"port": 65536},
        {"timeout": 0},
        {"timeout": 601},
        {"sender": "not an address"},
        {"sender": "a@example.com\r\nBcc: b@example.com"},
        {"oauth_token_url": "http://login.example.com/token"},
        {"oauth_token_url": "login.example.com"},
        {"ca_file": "relative.pem"},
        {"max_connections": 0},
        {"max_connections": 1000},
        {"rate": "30"},
        {"rate": "0/min"},
        {"rate": "1000000/s"},
        {"rate": "30/month"},
        {"verify": "perhaps"},
        {"surprise": 1},
    ],
)
def test_a_value_that_can_not_work_is_refused_by_name(fault: dict[str, Any], settings: Settings) -> None:
    with pytest.raises(DefinitionError, match=next(iter(fault))):
        checked(settings, **fault)


def test_a_token_url_makes_an_endpoint_log_in_by_token(settings: Settings) -> None:
    values = {
        "oauth_token_url": "https://login.example.com/token",
        "oauth_client_id": "app",
        "username": "otp@x.example",
    }
    made = endpoint(checked(settings, **values, oauth_client_secret="hunter2"), settings)
    assert made.oauth is not None
    assert (made.oauth.client_id, made.oauth.client_secret) == ("app", "hunter2")
    assert "hunter2" not in repr(made)


def test_a_definition_with_a_host_alone_is_complete(settings: Settings) -> None:
    definition = checked(settings)
    assert (definition["port"], definition["tls"], definition["timeout"], definition["enqueue_job"]) == (
        25,
        False,
        10.0,
        False,
    )


@pytest.mark.parametrize(
    ("values", "security", "port"),
    [
        ({}, "plain", 25),
        ({"tls": True, "port": 587}, "starttls", 587),
        ({"server": "smtps://mail.example.com", "port": 465}, "tls", 465),
        ({"server": "smtps://mail.example.com:8465", "port": 465, "tls": True}, "tls", 8465),
    ],
)
def test_a_definition_says_how_to_speak_to_the_server(
    values: dict[str, Any], security: str, port: int, settings: Settings
) -> None:
    made = endpoint(checked(settings, **values), settings)
    assert (made.host, made.security, made.port) == ("mail.example.com", security, port)


def test_a_login_goes_in_clear_only_to_hosts_that_are_named(tmp_path: Any) -> None:
    settings = make_settings(tmp_path, **{PREFIX + "LOGIN_WITHOUT_TLS": ["mail.internal"]})
    assert endpoint(checked(settings, server="mail.internal"), settings).login_without_tls
    assert not endpoint(checked(settings, server="mail.example.com"), settings).login_without_tls


def test_equal_definitions_make_equal_endpoints(settings: Settings) -> None:
    first, second = (endpoint(checked(settings, password="x"), settings) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)


def test_secrets_are_censored_for_people(settings: Settings) -> None:
    store = open_store(settings)
    shown = store.censored(
        checked(settings, password="hunter2", private_key_password="hunter3", oauth_client_secret="hunter4")
    )
    assert "hunter" not in str(shown)


def test_readiness_tells_of_a_password_that_can_not_be_read(tmp_path: Any) -> None:
    store = open_store(make_settings(tmp_path))
    store.save("main", {"server": "smtps://mail.example.com", "username": "user", "password": "hunter2"})
    assert servers_check(make_settings(tmp_path)).run().ok
    result = servers_check(make_settings(tmp_path, SECRET_KEY="y" * 32)).run()
    assert not result.ok
    assert "'main'" in result.message


def test_readiness_tells_of_a_ca_file_that_is_not_there(tmp_path: Any) -> None:
    settings = make_settings(tmp_path, **{PREFIX + "CA_FILE": str(tmp_path / "nothing.pem")})
    assert not servers_check(settings).run().ok


def test_a_definition_of_an_older_release_is_verified_and_limited(settings: Settings) -> None:
    store = open_store(settings)
    store.save("main", {"server": "smtps://mail.example.com"})
    with Database.of(settings).begin() as connection:
        old = {"server": "mail.example.com", "port": 25, "username": "", "sender": "", "tls": True, "timeout": 10.0}
        connection.execute(table.update().values(content=json.dumps(old)))
    definition = store.get("main")
    made = endpoint(definition, settings)
    assert (made.verify, made.ca_file, definition["fallback"]) == (True, None, "")
    assert limits_of(definition) == Limits(concurrency=10)
    store.save("main", {"description": "changed"})
    assert store.get("main")["verify"] is True


def test_a_definition_has_its_own_authorities_or_those_of_all(tmp_path: Any) -> None:
    settings = make_settings(tmp_path, **{PREFIX + "CA_FILE": "/all.pem"})
    assert endpoint(checked(settings), settings).ca_file == "/all.pem"
    assert endpoint(checked(settings, ca_file="/own.pem"), settings).ca_file == "/own.pem"


@pytest.mark.parametrize(
    ("rate", "limits"),
    [
        ("", Limits(concurrency=4)),
        ("5/s", Limits(concurrency=4, rate=5, per=1)),
        ("30/min", Limits(concurrency=4, rate=30, per=60)),
        (" 1000 / h", Limits(concurrency=4, rate=1000, per=3600)),
        ("10000/d", Limits(concurrency=4, rate=10000, per=86400)),
    ],
)
def test_a_definition_says_how_much_its_server_may_be_given(settings: Settings, rate: str, limits: Limits) -> None:
    assert limits_of(checked(settings, max_connections=4, rate=rate.strip())) == limits


def test_readiness_warns_in_red_of_a_server_that_is_not_verified(settings: Settings) -> None:
    store = open_store(settings)
    store.save("main", {"server": "smtps://mail.example.com"})
    assert not servers_check(settings).run().warning
    store.save("lax", {"server": "smtps://mail.example.com", "verify": "0"})
    found = servers_check(settings).run()
    assert found.ok and found.warning and found.alarm
    assert "SMTP server 'lax' is not verified" in found.message and "main" not in found.message


def test_readiness_warns_in_red_of_a_server_without_tls(settings: Settings) -> None:
    store = open_store(settings)
    store.save("main", {"server": "mail.example.com", "tls": "1"})
    store.save("here", {"server": "127.0.0.1"})
    assert not servers_check(settings).run().warning
    with pytest.raises(DefinitionError, match="the connection to SMTP server 'open' has no TLS"):
        store.save("open", {"server": "mail.example.com"})
    assert "open" not in store.list()
    # As by an older release, or before the setting was changed.
    settings._values[PREFIX + "LOGIN_WITHOUT_TLS"] = ["mail.example.com"]
    store.save("open", {"server": "mail.example.com"})
    settings._values[PREFIX + "LOGIN_WITHOUT_TLS"] = []
    found = servers_check(settings).run()
    assert found.alarm and "the connection to SMTP server 'open' has no TLS" in found.message


def test_readiness_tells_of_a_fallback_that_is_not_there(settings: Settings) -> None:
    open_store(settings).save("main", {"server": "smtps://mail.example.com", "fallback": "nobody"})
    found = servers_check(settings).run()
    assert found.warning and not found.alarm
    assert "the fallback of SMTP server 'main' is not there: 'nobody'" in found.message


@pytest.mark.parametrize("content", [None, "this is no certificate"])
def test_readiness_tells_of_a_definition_whose_ca_file_is_of_no_use(
    settings: Settings, tmp_path: Any, content: str | None
) -> None:
    place = tmp_path / "own.pem"
    if content is not None:
        place.write_text(content)
    open_store(settings).save("main", {"server": "smtps://mail.example.com", "ca_file": str(place)})
    found = servers_check(settings).run()
    assert not found.ok
    assert f"SMTP server 'main' can't be used: its CA file {place}" in found.message


SECRETS = {"password": "hunter2", "oauth_client_secret": "client-7", "oauth_refresh_token": "refresh-8"}


@pytest.mark.parametrize(
    "change",
    [
        {"server": "127.0.0.1"}, {"server": "smtps://mail.example.com"}, {"port": 2525}, {"tls": False},
        {"verify": False}, {"ca_file": "/tmp/evil.pem"}, {"oauth_token_url": "https://evil.example.net/token"},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_login_is_asked_for_anew_where_it_would_go_elsewhere(settings: Settings, change: dict[str, Any]) -> None:
    settings._values[PREFIX + "LOGIN_WITHOUT_TLS"] = ["mail.example.com"]
    store = open_store(settings)
    token = {"oauth_token_url": "https://login.example.com/token"}
    store.save("main", {"server": "mail.example.com", "port": 587, "tls": True, "username": "u", **token, **SECRETS})
    for kept in ({}, dict.fromkeys(SECRETS, "__CENSORED__")):
        for attempt in (store.save, lambda _, values: store.check(values, store.get("main"))):
            with pytest.raises(DefinitionError) as error:
                attempt("main", {**kept, **change})
            for name in SECRETS:
                assert f"{name}: expected the {name.replace('_', ' ')} anew" in str(error.value)
    store.save("main", {**change, **SECRETS})
    store.save("main", {"description": "leads nowhere else", "password": "__CENSORED__"})
    assert store.get("main")["password"] == "hunter2"
