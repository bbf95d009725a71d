"""Signing in, and how long a token holds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import itsdangerous
import pytest
from flask import Flask
from flask.testing import FlaskClient
from integration.served import PASSWORD, Client, error_of, make_app, settings_of, value_of

from pijobs.server.accounts import Accounts
from pijobs.server.auth import LIFETIME, MOST_OF_BOTH

NEW_PASSWORD = "another password"


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(tmp_path)


@pytest.fixture
def accounts(app: Flask) -> Accounts:
    accounts = Accounts.of(settings_of(app))
    accounts.add("alice", PASSWORD, "operator")
    return accounts


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
    payload, rest = token.split(".", 1)
    changed = itsdangerous.encoding.base64_encode(b'["root","0123456789abcdef"]').decode()
    assert error_of(workers(client, f"{changed}.{rest}")) == (401, 4033)
    assert error_of(workers(client, token[:-1] + ("A" if token[-1] != "A" else "B"))) == (401, 4033)
    assert payload != changed


def test_a_token_of_another_server_opens_nothing(client: FlaskClient, app: Flask, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_app(tmp_path / "other")
    Accounts.of(settings_of(other)).add("alice", PASSWORD, "operator")
    assert error_of(workers(client, token_of(other.test_client()))) == (401, 4033)


def test_a_token_ends_after_an_hour(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    token = token_of(client)
    now = itsdangerous.TimestampSigner.get_timestamp
    monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda self: now(self) + LIFETIME - 60)
    assert value_of(workers(client, token)) == []
    monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda self: now(self) + LIFETIME + 1)
    assert error_of(workers(client, token)) == (401, 4033)


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
