"""Accounts of the server that ships with pijobs. Passwords are kept as argon2id hashes (RFC 9106)."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import cast

import argon2
import sqlalchemy as sa

from pijobs.database import Database
from pijobs.errors import ConfigurationError, PijobsError
from pijobs.server.api import ROLES, Role
from pijobs.settings import Settings

MIN_PASSWORD = 8  # characters, NIST SP 800-63B 5.1.1.1
_NAME = re.compile(r"[\w.@+-]{1,64}")

metadata = sa.MetaData()
table = sa.Table(
    "pijobs_account",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("password", sa.String(256), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
)


class AccountError(PijobsError):
    """the account can't be changed like that"""


@dataclass(frozen=True, slots=True)
class Account:
    """One account. :ivar created: seconds since the epoch."""

    name: str
    password_hash: str
    role: Role
    created: int


class Accounts:
    """The accounts of an installation."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hasher = argon2.PasswordHasher()
        self._nobody = ""

    @classmethod
    def of(cls, settings: Settings) -> Accounts:
        """The accounts in the installation's database."""
        return settings.resource(cls, lambda: cls(Database.of(settings)))

    def add(self, name: str, password: str, role: str) -> None:
        """:raises AccountError: for a name or password that can't be used, or a name that is taken."""
        if not _NAME.fullmatch(name):
            raise AccountError(f"expected a name of letters, digits and . @ + - _, at most 64, found {name!r}")
        row = {"name": name, "password": self._hash(password), "role": _role(role), "created": int(time.time())}
        with self._begin() as connection:
            if connection.execute(sa.select(table.c.name).where(table.c.name == name)).first():
                raise AccountError(f"there is an account {name!r} already; 'pijobs admin password' changes its password")
            connection.execute(table.insert().values(row))

    def list(self) -> list[Account]:
        """All accounts by name."""
        with self._begin() as connection:
            return [_account(row) for row in connection.execute(sa.select(table).order_by(table.c.name))]

    def get(self, name: str) -> Account | None:
        with self._begin() as connection:
            row = connection.execute(sa.select(table).where(table.c.name == name)).first()
        return None if row is None else _account(row)

    def remove(self, name: str) -> None:
        """:raises AccountError: for an unknown name, or the last admin: nobody could edit definitions any more."""
        with self._begin() as connection:
            rows = {row.name: row.role for row in connection.execute(sa.select(table.c.name, table.c.role))}
            if name not in rows:
                raise AccountError(f"there is no account {name!r}")
            if rows[name] == "admin" and list(rows.values()).count("admin") == 1:
                raise AccountError(f"{name!r} is the last admin; add another one first")
            connection.execute(table.delete().where(table.c.name == name))

    def set_password(self, name: str, password: str) -> None:
        """:raises AccountError: for an unknown name or a password that is too short."""
        changed = self._hash(password)
        with self._begin() as connection:
            done = connection.execute(table.update().where(table.c.name == name).values(password=changed))
            if not done.rowcount:
                raise AccountError(f"there is no account {name!r}")

    def verify(self, name: str, password: str) -> Account | None:
        """The account, if the password is right. An unknown name takes as long as a wrong password."""
        account = self.get(name)
        try:
            self._hasher.verify(account.password_hash if account else self._dummy(), password)
        except argon2.exceptions.VerificationError:
            return None
        if account is None:
            return None
        if self._hasher.check_needs_rehash(account.password_hash):
            self.set_password(name, password)
            return self.get(name)
        return account

    def _begin(self):  # type: ignore[no-untyped-def]
        self._database.ensure(metadata)
        return self._database.begin()

    def _hash(self, password: str) -> str:
        if len(password) < MIN_PASSWORD:
            raise AccountError(f"expected a password of at least {MIN_PASSWORD} characters, found {len(password)}")
        return self._hasher.hash(password)

    def _dummy(self) -> str:
        self._nobody = self._nobody or self._hasher.hash("nobody's password")
        return self._nobody


def _role(role: str) -> Role:
    if role not in ROLES:
        raise ConfigurationError(f"expected a role out of {', '.join(ROLES)}, found {role!r}")
    return cast(Role, role)


def _account(row: sa.Row[tuple[str, str, str, int]]) -> Account:
    return Account(row.name, row.password, cast(Role, row.role), row.created)
