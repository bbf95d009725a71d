"""Accounts of the server: who there is, and that a password is the only way in."""

from __future__ import annotations

from typing import Literal

import pytest
from argon2 import PasswordHasher

from pijobs.database import Database
from pijobs.server.accounts import AccountError, Accounts
from pijobs.settings import Settings

PASSWORD = "correct horse battery"


class CountingHasher(PasswordHasher):
    """Quick and weak, and counts what it verifies."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        self.verified += 1
        return super().verify(hash, password)


@pytest.fixture
def database(core_settings: Settings) -> Database:
    return Database.of(core_settings)


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
def accounts(database: Database, hasher: CountingHasher) -> Accounts:
    return Accounts(database, hasher)


def test_the_right_password_gives_the_account(accounts: Accounts) -> None:
    accounts.add("alice", PASSWORD, "operator")
    account = accounts.verify("alice", PASSWORD)
    assert account is not None
    assert (account.name, account.role) == ("alice", "operator")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "wrong horse battery"),
        ("alice", ""),
        ("alice", PASSWORD + "\0"),
        ("alice", "\ud800"),
        ("Alice", PASSWORD),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("\ud800", PASSWORD),
        ("alice' OR '1'='1", PASSWORD),
    ],
)
def test_anything_else_gives_nothing(accounts: Accounts, name: str, password: str) -> None:
    accounts.add("alice", PASSWORD, "viewer")
    assert accounts.verify(name, password) is None


def test_an_unknown_name_costs_a_hash_too(accounts: Accounts, hasher: CountingHasher) -> None:
    assert accounts.verify("nobody", PASSWORD) is None
    assert hasher.verified == 1


def test_the_password_is_stored_as_argon2id(accounts: Accounts, core_settings: Settings) -> None:
    accounts.add("alice", PASSWORD, "viewer")
    assert [account.password_hash[:10] for account in accounts.list()] == ["$argon2id$"]
    assert PASSWORD.encode() not in (core_settings.directory / "pijobs.sqlite").read_bytes()


def test_a_weaker_hash_is_renewed_at_the_next_login(accounts: Accounts, database: Database) -> None:
    accounts.add("alice", PASSWORD, "viewer")
    (weak,) = accounts.list()
    renewed = Accounts(database).verify("alice", PASSWORD)
    assert renewed is not None
    assert accounts.get("alice") == renewed != weak
    assert not PasswordHasher().check_needs_rehash(renewed.password_hash)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a" * 65, "a\n", "\ud800"])
def test_a_name_that_can_not_be_is_refused(accounts: Accounts, name: str) -> None:
    with pytest.raises(AccountError, match="expected a name"):
        accounts.add(name, PASSWORD, "viewer")


def test_a_short_password_is_refused_without_being_told(accounts: Accounts) -> None:
    with pytest.raises(AccountError, match="at least 12 characters, found 7") as caught:
        accounts.add("alice", "hunter2", "viewer")
    assert "hunter2" not in str(caught.value)


def test_an_unknown_role_is_refused(accounts: Accounts) -> None:
    with pytest.raises(AccountError, match="viewer, operator, admin"):
        accounts.add("alice", PASSWORD, "root")


def test_a_name_is_given_once(accounts: Accounts) -> None:
    accounts.add("alice", PASSWORD, "viewer")
    with pytest.raises(AccountError, match="already"):
        accounts.add("alice", "another password", "admin")
    assert accounts.verify("alice", PASSWORD) is not None


def test_accounts_are_listed_by_name(accounts: Accounts) -> None:
    for name in ("carol", "alice", "Bob"):
        accounts.add(name, PASSWORD, "viewer")
    assert [account.name for account in accounts.list()] == ["Bob", "alice", "carol"]


def test_a_removed_account_is_gone(accounts: Accounts) -> None:
    accounts.add("alice", PASSWORD, "viewer")
    accounts.remove("alice")
    assert accounts.verify("alice", PASSWORD) is None
    with pytest.raises(AccountError, match="no account"):
        accounts.remove("alice")


def test_the_last_admin_stays(accounts: Accounts) -> None:
    accounts.add("alice", PASSWORD, "admin")
    accounts.add("bob", PASSWORD, "operator")
    with pytest.raises(AccountError, match="last admin"):
        accounts.remove("alice")
    accounts.add("carol", PASSWORD, "admin")
    accounts.remove("alice")
    assert [account.name for account in accounts.list()] == ["bob", "carol"]


def test_a_new_password_replaces_the_old_one(accounts: Accounts) -> None:
    accounts.add("alice", PASSWORD, "viewer")
    accounts.set_password("alice", "another password")
    assert accounts.verify("alice", PASSWORD) is None
    assert accounts.verify("alice", "another password") is not None


def test_nobody_has_no_password_to_change(accounts: Accounts) -> None:
    with pytest.raises(AccountError, match="no account"):
        accounts.set_password("nobody", PASSWORD)
