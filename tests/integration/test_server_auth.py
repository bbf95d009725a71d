"""Signing in, and how long a token holds."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from integration.served import PASSWORD, Client, error_of, make_app, settings_of, storage_of, value_of

from pijobs.database import Database
from pijobs.server.accounts import Accounts
from pijobs.server.auth import LIFETIME, RECENT
from pijobs.server.lockout import MOST_OF_ACCOUNT, MOST_OF_BOTH, Tries
from pijobs.server.sessions import IDLE, MOST, Sessions
from pijobs.settings import Settings

NEW_PASSWORD = "another password"


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(tmp_path)


@pytest.fixture
def accounts(app: Flask) -> Accounts:
    accounts = Accounts.of(settings_of(app))
    accounts.add("alice", PASSWORD, "operator")
    return accounts


class Clock:
    """Of sessions and tries; seconds since it began."""

    def __init__(self, settings: Settings) -> None:
        self._begin = self._now = time.time()
        settings.resource(Sessions, lambda: Sessions(Database.of(settings), lambda: self._now))

    def set(self, seconds: float) -> None:
        self._now = self._begin + seconds


@pytest.fixture
def clock(app: Flask) -> Clock:
    return Clock(settings_of(app))


@pytest.fixture
def client(app: Flask, accounts: Accounts) -> FlaskClient:
    return app.test_client()


def sign_in(client: FlaskClient, username: Any = "alice", password: Any = PASSWORD) -> Any:
    return client.post("/auth", json={"username": username, "password": password})


def token_of(client: FlaskClient) -> str:
    token: str = value_of(sign_in(client))["token"]
    return token


def workers(client: FlaskClient, token: str, header: str = "Authorization") -> Any:
    return client.get("/workers", headers={header: token})


def test_signing_in_tells_the_role(client: FlaskClient) -> None:
    value = value_of(sign_in(client))
    assert (value["username"], value["role"]) == ("alice", "operator")


def test_a_form_will_do(client: FlaskClient) -> None:
    assert value_of(client.post("/auth", data={"username": "alice", "password": PASSWORD}))["token"]


@pytest.mark.parametrize("header", ["Authorization", "PI-Authorization"])
@pytest.mark.parametrize("scheme", ["", "Bearer "])
def test_the_token_opens_the_routes(client: FlaskClient, header: str, scheme: str) -> None:
    assert value_of(workers(client, scheme + token_of(client), header)) == []


def test_an_unknown_name_and_a_wrong_password_look_the_same(client: FlaskClient) -> None:
    unknown, wrong = sign_in(client, "nobody"), sign_in(client, "alice", "a wrong password")
    assert error_of(unknown) == error_of(wrong) == (401, 4031)
    assert unknown.data == wrong.data


@pytest.mark.parametrize("values", [{}, {"username": "alice"}, {"password": PASSWORD}, {"username": 1, "password": 2}])
def test_name_and_password_must_be_there(client: FlaskClient, values: dict[str, Any]) -> None:
    assert error_of(client.post("/auth", json=values)) == (400, 905)


def test_a_password_in_the_url_is_refused(client: FlaskClient) -> None:
    response = client.post("/auth", query_string={"username": "alice", "password": PASSWORD})
    assert error_of(response) == (400, 905)


def test_no_password_is_logged(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        sign_in(client)
        sign_in(client, password="a wrong password")
    assert PASSWORD not in caplog.text
    assert "a wrong password" not in caplog.text


@pytest.mark.parametrize("token", ["", "Bearer", "nonsense", "a.b.c", "\x00", "é", "WyJhbGljZSJd.aaaa.bbbb"])
def test_anything_else_opens_nothing(client: FlaskClient, token: str) -> None:
    assert error_of(workers(client, token.encode("latin-1").decode("latin-1"))) == (401, 4033)


def test_a_token_that_was_changed_opens_nothing(client: FlaskClient) -> None:
    token = token_of(client)
    assert error_of(workers(client, token[:-1] + ("A" if token[-1] != "A" else "B"))) == (401, 4033)
    assert error_of(workers(client, token + "A")) == (401, 4033)


def test_the_database_holds_no_token(client: FlaskClient, tmp_path: Path) -> None:
    token = token_of(client)
    assert all(token.encode() not in file.read_bytes() for file in tmp_path.glob("pijobs.sqlite*"))


def test_a_token_of_another_server_opens_nothing(client: FlaskClient, app: Flask, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_app(tmp_path / "other")
    Accounts.of(settings_of(other)).add("alice", PASSWORD, "operator")
    assert error_of(workers(client, token_of(other.test_client()))) == (401, 4033)


def test_a_token_ends_after_an_hour(client: FlaskClient, clock: Clock) -> None:
    token = token_of(client)
    for minutes in (25, 50, 59):
        clock.set(minutes * 60)
        assert value_of(workers(client, token)) == []
    clock.set(LIFETIME + 1)
    assert error_of(workers(client, token)) == (401, 4033)


def test_a_token_that_nobody_uses_ends_after_half_an_hour(client: FlaskClient, clock: Clock) -> None:
    token = token_of(client)
    clock.set(IDLE + 1)
    assert error_of(workers(client, token)) == (401, 4033)


def test_a_token_is_ended_by_its_owner(client: FlaskClient) -> None:
    token, other = token_of(client), token_of(client)
    assert value_of(client.delete("/auth", headers={"Authorization": token})) == {"ended": 1}
    assert error_of(workers(client, token)) == (401, 4033)
    assert value_of(workers(client, other)) == []
    third = token_of(client)
    assert value_of(client.delete("/auth?everywhere=1", headers={"Authorization": other})) == {"ended": 2}
    assert error_of(workers(client, third)) == error_of(workers(client, other)) == (401, 4033)


def test_signing_in_for_ever_fills_no_table(client: FlaskClient, app: Flask, clock: Clock) -> None:
    sessions = Sessions.of(settings_of(app))
    first = token_of(client)
    clock.set(5)
    for _ in range(MOST):
        sessions.begin("alice", "x", "token", address="", agent="")
    assert len(sessions.list("alice")) == MOST
    assert error_of(workers(client, first)) == (401, 4033)


def test_a_token_ends_with_its_account(client: FlaskClient, accounts: Accounts) -> None:
    token = token_of(client)
    accounts.remove("alice")
    assert error_of(workers(client, token)) == (401, 4033)


def test_an_account_of_the_same_name_does_not_take_over_the_token(client: FlaskClient, accounts: Accounts) -> None:
    token = token_of(client)
    accounts.remove("alice")
    accounts.add("alice", PASSWORD, "operator")
    assert error_of(workers(client, token)) == (401, 4033)


def test_a_token_ends_with_its_password(client: FlaskClient, accounts: Accounts) -> None:
    token = token_of(client)
    accounts.set_password("alice", NEW_PASSWORD)
    assert error_of(workers(client, token)) == (401, 4033)
    assert value_of(sign_in(client, password=NEW_PASSWORD))["token"]


def test_guessing_ends_in_a_pause_also_for_the_right_password(client: FlaskClient) -> None:
    for number in range(MOST_OF_BOTH):
        assert error_of(sign_in(client, password=f"guess number {number}")) == (401, 4031)
    assert error_of(sign_in(client)) == (429, 429)


def test_a_pause_for_one_is_none_for_others(client: FlaskClient, app: Flask) -> None:
    for _ in range(MOST_OF_BOTH + 1):
        sign_in(client, "nobody")
    assert error_of(sign_in(client, "nobody")) == (429, 429)
    assert Client(app, "viewer").get("/workers") == []


def from_address(app: Flask, address: str) -> FlaskClient:
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = address
    return client


def test_all_addresses_of_one_ipv6_network_count_as_one(app: Flask, accounts: Accounts) -> None:
    for number in range(MOST_OF_BOTH):
        assert error_of(sign_in(from_address(app, f"2001:db8:1:2::{number + 1:x}"), password="guess")) == (401, 4031)
    assert error_of(sign_in(from_address(app, "2001:db8:1:2:ffff::1"))) == (429, 429)
    assert value_of(sign_in(from_address(app, "2001:db8:1:3::1")))["token"]


def test_a_guesser_with_many_addresses_does_not_keep_the_owner_out(app: Flask, accounts: Accounts) -> None:
    owner = from_address(app, "192.0.2.1")
    assert value_of(sign_in(owner))["token"]
    tries = settings_of(app).resource(Tries, Tries)
    for number in range(MOST_OF_ACCOUNT):
        tries.begin("alice", f"198.51.100.{number}")
    assert error_of(sign_in(from_address(app, "203.0.113.9"))) == (429, 429)
    assert value_of(sign_in(owner))["token"]


def test_a_device_is_known_for_one_account_and_has_few_tries(app: Flask, accounts: Accounts) -> None:
    accounts.add("bob", PASSWORD, "viewer")
    device = app.test_client()
    sign_in(device)
    tries = settings_of(app).resource(Tries, Tries)
    for number in range(MOST_OF_ACCOUNT):
        tries.begin("bob", f"198.51.100.{number}")
    assert error_of(sign_in(device, "bob")) == (429, 429)
    for _ in range(MOST_OF_BOTH):
        assert error_of(sign_in(device, password="guess")) == (401, 4031)
    assert error_of(sign_in(device)) == (429, 429)


@pytest.mark.parametrize("value", ["", "x", "WyJhIiwiYWxpY2UiXQ.aaaa.bbbb"])
def test_a_device_can_not_be_made_up(app: Flask, accounts: Accounts, value: str) -> None:
    stranger = app.test_client()
    stranger.set_cookie("pijobs_device", value)
    tries = settings_of(app).resource(Tries, Tries)
    for number in range(MOST_OF_ACCOUNT):
        tries.begin("alice", f"198.51.100.{number}")
    assert error_of(sign_in(stranger)) == (429, 429)


def test_a_definition_is_changed_by_a_young_token_only(tmp_path: Path) -> None:
    app = make_app(tmp_path, PLUGINS=("mail",))
    clock, admin = Clock(settings_of(app)), Client(app, "admin")
    assert value_of(admin.ask("POST", "/smtpserver/main", server="smtps://mail.example.com")) is True
    clock.set(RECENT + 60)
    assert error_of(admin.ask("POST", "/smtpserver/main", server="mx.evil.example")) == (401, 4033)
    assert error_of(admin.ask("DELETE", "/smtpserver/main")) == (401, 4033)
    assert admin.get("/smtpserver/")["main"]["server"] == "smtps://mail.example.com"


def test_queue_and_accounts_may_share_a_database(tmp_path: Path) -> None:
    app = make_app(tmp_path, URL=f"sqlite:///{tmp_path}/pijobs.sqlite")
    storage_of(app).ping()
    storage_of(app).depths()
    assert Client(app, "admin").get("/workers") == []
