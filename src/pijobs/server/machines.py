"""Tokens for machines: each has a name, an expiry, and a scope that lists all it may do.

A token is a random secret; the database stores its SHA-256. ``status`` allows reading jobs, workers and groups;
``enqueue:NAME`` allows enqueuing that job, ``enqueue:mail.*`` all jobs whose names begin with ``mail.``.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pijobs.base import clock
from pijobs.database import Database, exact_text
from pijobs.errors import DatabaseConflict, PijobsError
from pijobs.settings import Settings

#: Prefix of each token, so that people and secret scanners recognise it.
BEGIN = "pijobs_"
#: Seconds between two updates of a token's last use.
STEP = 3600
STATUS, ENQUEUE = "status", "enqueue:"
_NAME = re.compile(r"[\w.@+-]{1,64}")
_SCOPE = re.compile(r"status|enqueue:[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?")
_SECRET = re.compile(rf"{BEGIN}[\w-]{{43}}")

metadata = sa.MetaData()
table = sa.Table(
    "pijobs_machine",
    metadata,
    sa.Column("id", exact_text(64), primary_key=True),
    sa.Column("name", exact_text(64), nullable=False, unique=True),
    # A JSON list.
    sa.Column("scopes", sa.Text, nullable=False),
    # Seconds since the epoch.
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Column("seen", sa.BigInteger),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)


class MachineError(PijobsError):
    """the token can't be made like that"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A token without its secret. Times are seconds since the epoch.

    :ivar seen: the last use, up to :data:`STEP` seconds late; None: never used.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    created: int
    until: int
    seen: int | None = None
    #: For the audit log.
    role: str = "machine"

    def may(self, scope: str) -> bool:
        """Whether the token allows ``status`` or, say, ``enqueue:mail.send``; ``enqueue:`` asks for any job."""
        if scope == ENQUEUE:
            return any(own.startswith(ENQUEUE) for own in self.scopes)
        return any(own == scope or (own.endswith(".*") and scope.startswith(own[:-1])) for own in self.scopes)


class Machines:
    """The tokens of an installation.

    Each method raises :class:`~pijobs.errors.DatabaseError` when the database fails.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = clock.time) -> None:
        self._database, self._clock = database, clock

    @classmethod
    def of(cls, settings: Settings) -> Machines:
        """The tokens in the installation's database."""
        return settings.resource(cls, lambda: cls(Database.of(settings)))

    def add(self, name: str, scopes: Sequence[str], days: float) -> str:
        """Make a token that is valid for so many days. Returns the token; it can't be read again.

        :raises MachineError: if the name or a scope is invalid, or the name is taken.
        """
        if not _NAME.fullmatch(name):
            raise MachineError(f"expected a name of letters, digits and . @ + - _, at most 64, found {name!r}")
        if wrong := [scope for scope in scopes if not _SCOPE.fullmatch(scope)] or not scopes:
            found = "none" if wrong is True else ", ".join(map(repr, wrong))
            raise MachineError(f"expected as scope 'status', 'enqueue:mail.send' or 'enqueue:mail.*', found {found}")
        token, now = BEGIN + secrets.token_urlsafe(32), int(self._clock())
        row = {"id": _id(token), "name": name, "scopes": json.dumps(list(scopes)), "created": now,
               "until": now + int(days * 86400)}  # fmt: skip
        self._database.ensure(metadata)
        try:
            with self._database.begin() as connection:
                connection.execute(table.insert().values(row))
        except DatabaseConflict as error:
            raise MachineError(f"there is a token {name!r} already; remove it first") from error
        return token

    def get(self, token: str) -> Machine | None:
        """The machine of a valid token, else None. Updates the last use."""
        if not _SECRET.fullmatch(token) or not self._database.has(metadata):
            return None
        with self._database.read() as connection:
            row = connection.execute(sa.select(table).where(table.c.id == _id(token))).first()
        if row is None or row.until < self._clock():
            return None
        if (now := int(self._clock())) - (row.seen or 0) >= STEP:
            with self._database.begin() as connection:
                connection.execute(table.update().where(table.c.id == row.id).values(seen=now))
        return _machine(row)

    def list(self) -> list[Machine]:
        """All tokens by name, also expired ones."""
        if not self._database.has(metadata):
            return []
        with self._database.read() as connection:
            return [_machine(row) for row in connection.execute(sa.select(table).order_by(table.c.name))]

    def remove(self, name: str) -> None:
        """Remove a token.

        :raises MachineError: if there is no token with this name.
        """
        self._database.ensure(metadata)
        with self._database.begin() as connection:
            if not connection.execute(table.delete().where(table.c.name == name)).rowcount:
                raise MachineError(f"there is no token {name!r}; 'pijobs admin token list' shows them")


def _id(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _machine(row: sa.Row[Any]) -> Machine:
    return Machine(row.id, row.name, tuple(json.loads(row.scopes)), row.created, row.until, row.seen)
