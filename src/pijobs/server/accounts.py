"""Accounts of the server that ships with pijobs. Passwords are kept as argon2id hashes (RFC 9106)."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

import sqlalchemy as sa

from pijobs.base import clock, threads
from pijobs.database import Database, exact_text
from pijobs.errors import DatabaseConflict, PijobsError
from pijobs.server.passwords import fault_of
from pijobs.settings import Settings

if TYPE_CHECKING:
    from argon2 import PasswordHasher

#: Most password hashes that run at the same time. Each needs 64 MiB, and anyone can request one.
AT_ONCE = 4
_NAME = re.compile(r"[\w.@+-]{1,64}")

Role = Literal["helpdesk", "viewer", "operator", "admin"]
#: Each role has the rights of the roles before it.
ROLES: tuple[Role, ...] = ("helpdesk", "viewer", "operator", "admin")

metadata = sa.MetaData()
table = sa.Table(
    "pijobs_account",
    metadata,
    sa.Column("name", exact_text(64), primary_key=True),
    sa.Column("password", sa.String(256), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
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
    """The accounts of an installation.

    Each method raises :class:`~pijobs.errors.DatabaseError` when the database fails.

    :param hasher: hashes the passwords; None: a hasher with argon2-cffi's default parameters.
    """

    def __init__(self, database: Database, hasher: PasswordHasher | None = None) -> None:
        self._database = database
        self._given_hasher = hasher
        self._hash_slots = threads.BoundedSemaphore(AT_ONCE)

    @classmethod
    def of(cls, settings: Settings) -> Accounts:
        """The accounts in the installation's database."""
        return settings.resource(cls, lambda: cls(Database.of(settings)))

    def add(self, name: str, password: str, role: str) -> None:
        """Add an account. :raises AccountError: if a value is invalid or the name is taken."""
        if not _NAME.fullmatch(name):
            raise AccountError(f"expected a name of letters, digits and . @ + - _, at most 64, found {name!r}")
        row = {
            "name": name,
            "role": _role(role),
            "password": self._new_hash(name, password),
            "created": int(clock.time()),
        }
        try:
            with self._begin() as connection:
                connection.execute(table.insert().values(row))
        except DatabaseConflict as error:
            advice = "'pijobs admin password' changes its password"
            raise AccountError(f"there is an account {name!r} already; {advice}") from error

    def list(self) -> list[Account]:
        """All accounts by name."""
        with self._read() as connection:
            return [_account(row) for row in connection.execute(sa.select(table).order_by(table.c.name))]

    def get(self, name: str) -> Account | None:
        """The account, or None if the name is unknown."""
        if not _NAME.fullmatch(name):
            return None
        with self._read() as connection:
            row = connection.execute(sa.select(table).where(table.c.name == name)).first()
        return None if row is None else _account(row)

    def remove(self, name: str) -> None:
        """Remove an account. :raises AccountError: if the name is unknown, or belongs to the last admin."""
        account = self.get(name)
        if account is None:
            raise AccountError(_unknown(name))
        with self._begin() as connection:
            # The lock prevents two admins from removing each other at the same time.
            admins = sa.select(table.c.name).where(table.c.role == "admin").order_by(table.c.name).with_for_update()
            if connection.execute(admins).scalars().all() == [name]:
                raise AccountError(f"{name!r} is the last admin; add another one first")
            connection.execute(table.delete().where(table.c.name == name))

    def set_password(self, name: str, password: str) -> None:
        """Set a new password. :raises AccountError: if the name is unknown, or the password short or easy to guess."""
        self._write_hash(name, self._new_hash(name, password))

    def verify(self, name: str, password: str) -> Account | None:
        """The account, or None if the password is wrong. An unknown name takes as long as a wrong password."""
        from argon2.exceptions import InvalidHashError, VerificationError

        account, given = self.get(name), _bytes(password)
        expected = self._dummy_hash if account is None else account.password_hash
        try:
            with self._hash_slots:
                self._hasher.verify(expected, given)
        except (VerificationError, InvalidHashError):
            return None
        if account is None:
            return None
        if self._hasher.check_needs_rehash(account.password_hash):
            # Do not check the password's length: it may be older than today's minimum.
            self._write_hash(name, self._hash(given))
            return self.get(name)
        return account

    def _begin(self) -> AbstractContextManager[sa.Connection]:
        self._database.ensure(metadata)
        return self._database.begin()

    def _read(self) -> AbstractContextManager[sa.Connection]:
        self._database.ensure(metadata)
        return self._database.read()

    def _write_hash(self, name: str, new: str) -> None:
        with self._begin() as connection:
            if not connection.execute(table.update().where(table.c.name == name).values(password=new)).rowcount:
                raise AccountError(_unknown(name))

    def _new_hash(self, name: str, password: str) -> str:
        if fault := fault_of(password, name):
            raise AccountError(fault)
        return self._hash(_bytes(password))

    def _hash(self, password: bytes) -> str:
        with self._hash_slots:
            return self._hasher.hash(password)

    @cached_property
    def _hasher(self) -> PasswordHasher:
        from argon2 import PasswordHasher

        return self._given_hasher or PasswordHasher()

    @cached_property
    def _dummy_hash(self) -> str:
        return self._hash(b"the password of nobody")


def _bytes(password: str) -> bytes:
    # JSON can contain half of a surrogate pair.
    return password.encode("utf-8", "surrogatepass")


def _unknown(name: str) -> str:
    return f"there is no account {name!r}; 'pijobs admin list' shows them"


def _role(role: str) -> Role:
    for known in ROLES:
        if role == known:
            return known
    raise AccountError(f"expected a role out of {', '.join(ROLES)}, found {role!r}")


def _account(row: sa.Row[tuple[str, str, str, int]]) -> Account:
    return Account(row.name, row.password, cast(Role, row.role), row.created)
