"""Sessions of the pages, and tokens of ``POST /auth``, in the installation's database.

A client has a random secret; the database stores its SHA-256, so nobody can sign in with what the table holds. A
session ends on the server: by its age, after half an hour without a request of a person, by signing out, or when the
account changes.

No library has this table. Flask-Login keeps the sign-in in the cookie, so that sessions can't be listed or ended.
Flask-Session stores blobs that can't be found by account, replaces the session interface of the whole app (the pages
are mounted in other people's apps), and has no tokens.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pijobs.base import clock
from pijobs.database import Database, exact_text
from pijobs.errors import DatabaseConflict
from pijobs.settings import Settings

IDLE = 30 * 60  # seconds without a request; OWASP ASVS 4.0, 3.3.2
#: Seconds that a session lasts, by kind.
LIFETIMES = {"pages": 12 * 3600, "token": 3600}
#: Most sessions of one account and kind. A new one ends the least recently used.
MOST = 100
#: Seconds for which we remember a host's token. It lives as long as the host says, and must not start again after it
#: was ended here, or was idle for :data:`IDLE` seconds.
HOSTS_TOKEN = 90 * 24 * 3600
#: Seconds between two updates of a session's last request.
STEP = 60
_SECRET = re.compile(r"[\w-]{43}")

Kind = Literal["pages", "token"]

metadata = sa.MetaData()


table = sa.Table(
    "pijobs_sign_in",
    metadata,
    sa.Column("id", exact_text(64), primary_key=True),
    # Contains the realm, if the host has realms.
    sa.Column("name", exact_text(255), nullable=False, index=True),
    sa.Column("kind", exact_text(8), nullable=False),
    # Hash of password and role: the session ends when either changes.
    sa.Column("fingerprint", exact_text(32), nullable=False),
    # All times in seconds since the epoch.
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    # The last time that the owner gave the password.
    sa.Column("proved", sa.BigInteger, nullable=False),
    # 0: the second factor is missing.
    sa.Column("whole", sa.Integer, nullable=False),
    # 1: ended. The row stays until its time, so that a host's token stays ended.
    sa.Column("ended", sa.Integer, nullable=False),
    sa.Column("address", exact_text(64), nullable=False),
    sa.Column("agent", exact_text(200), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)


@dataclass(frozen=True, slots=True)
class Session:
    """One session. Times are seconds since the epoch.

    :ivar id: names the session, for its owner to end it; does not open it.
    :ivar seen: the last request of a person, up to :data:`STEP` seconds late.
    :ivar proved: the last time that the owner gave the password.
    :ivar whole: False: the second factor is missing.
    """

    id: str
    name: str
    kind: Kind
    fingerprint: str
    created: int
    seen: int
    until: int
    proved: int
    whole: bool
    address: str
    agent: str


class Sessions:
    """The sessions of an installation.

    Each method raises :class:`~pijobs.errors.DatabaseError` when the database fails.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = clock.time) -> None:
        self._database = database
        self._clock = clock

    @classmethod
    def of(cls, settings: Settings) -> Sessions:
        """The sessions in the installation's database."""
        return settings.resource(cls, lambda: cls(Database.of(settings)))

    def begin(
        self, name: str, fingerprint: str, kind: Kind, *,
        address: str, agent: str, whole: bool = True, lifetime: int | None = None, secret: str | None = None,
    ) -> str:  # fmt: skip
        """Begin a session, and delete expired ones. Returns the session's secret.

        :param lifetime: seconds; default: by :data:`LIFETIMES`.
        :param secret: a host's token, to use as the secret; default: a new secret.
        """
        secret, now = secret or secrets.token_urlsafe(32), int(self._clock())
        row = {
            "id": _id(secret), "name": name, "kind": kind, "fingerprint": fingerprint, "created": now, "seen": now,
            "until": now + (lifetime or LIFETIMES[kind]), "proved": now, "whole": int(whole), "ended": 0,
            "address": address[:64], "agent": agent[:200],
        }  # fmt: skip

        def work(connection: Connection) -> None:
            connection.execute(table.delete().where((table.c.until < now) | _idle(now)))
            self._make_room(connection, name, kind)
            connection.execute(table.insert().values(row))

        self._database.ensure(metadata)
        self._database.run(work)
        return secret

    def get(self, secret: str, kind: Kind) -> Session | None:
        """The session of this secret; None if it is unknown or has ended."""
        if not _SECRET.fullmatch(secret):
            return None
        return self._get(_id(secret), kind)

    def adopt(self, token: str, first: tuple[str, str, str, str]) -> Session | None:
        """The session of a host's token, created at its first use; None if it was ended here.

        :param first: name, fingerprint, address and agent of a new session.
        """
        if self._row(_id(token)) is None:
            name, fingerprint, address, agent = first
            with suppress(DatabaseConflict):  # another request used the token first
                self.begin(name, fingerprint, "token", address=address, agent=agent, secret=token, lifetime=HOSTS_TOKEN)
        return self._get(_id(token), "token")

    def use(self, session: Session) -> None:
        """Update the time of the owner's last request."""
        if (now := int(self._clock())) - session.seen >= STEP:
            self._update(session, seen=now)

    def prove(self, session: Session) -> None:
        """Note that the owner gave the password, or the second factor, again."""
        self._update(session, proved=int(self._clock()), whole=1)

    def is_fresh(self, session: Session, seconds: float) -> bool:
        """Whether the owner gave the password within the last ``seconds``."""
        return 0 <= self._clock() - session.proved <= seconds

    def list(self, name: str) -> list[Session]:
        """The open sessions of an account, the last used first."""
        now = int(self._clock())
        query = sa.select(table).where(table.c.name == name, *_alive(now)).order_by(table.c.seen.desc(), table.c.id)
        if not self._database.has(metadata):
            return []
        with self._database.read() as connection:
            return [_session(row) for row in connection.execute(query)]

    def end(self, name: str, id: str) -> bool:
        """End a session of an account. Returns whether it was open."""
        return self._end(table.c.id == id, table.c.name == name) > 0

    def end_all(self, name: str) -> int:
        """End all sessions of an account. Returns how many were open."""
        return self._end(table.c.name == name)

    def forget(self, name: str) -> None:
        """Delete all sessions of an account."""
        self._database.ensure(metadata)
        with self._database.begin() as connection:
            connection.execute(table.delete().where(table.c.name == name))

    def _end(self, *which: sa.ColumnElement[bool]) -> int:
        self._database.ensure(metadata)
        with self._database.begin() as connection:
            return connection.execute(table.update().where(*which, table.c.ended == 0).values(ended=1)).rowcount

    def _get(self, id: str, kind: Kind) -> Session | None:
        row, now = self._row(id), self._clock()
        if row is None or row.kind != kind or row.ended or now > row.until or now - row.seen > IDLE:
            return None
        return _session(row)

    def _row(self, id: str) -> sa.Row[Any] | None:
        if not self._database.has(metadata):  # nobody has signed in yet
            return None
        with self._database.read() as connection:
            return connection.execute(sa.select(table).where(table.c.id == id)).first()

    def _update(self, session: Session, **values: int) -> None:
        with self._database.begin() as connection:
            connection.execute(table.update().where(table.c.id == session.id).values(values))

    @staticmethod
    def _make_room(connection: Connection, name: str, kind: Kind) -> None:
        own = table.c.name == name, table.c.kind == kind, table.c.ended == 0
        rows = connection.execute(sa.select(table.c.id).where(*own).order_by(table.c.seen.desc(), table.c.id)).scalars()
        if surplus := rows.all()[MOST - 1 :]:
            connection.execute(table.update().where(table.c.id.in_(surplus)).values(ended=1))


def _idle(now: int) -> sa.ColumnElement[bool]:
    # Ended sessions stay until their time, so that their tokens do not start again.
    return (table.c.seen < now - IDLE) & (table.c.ended == 0) & (table.c.kind == "pages")


def _alive(now: int) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.ended == 0, table.c.until >= now, table.c.seen >= now - IDLE


def _id(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _session(row: sa.Row[Any]) -> Session:
    return Session(
        row.id, row.name, row.kind, row.fingerprint, row.created, row.seen, row.until, row.proved, bool(row.whole),
        row.address, row.agent,
    )  # fmt: skip
