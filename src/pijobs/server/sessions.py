"""Sessions: who is signed in to the pages or holds a token of ``POST /auth``, in the installation's database.

A client holds a random secret, the database its SHA-256: who reads the table can sign in with none of it. A session
ends on the server: by its age, after half an hour without a request of a person, by signing out, or when the account
changes.

No library, because none keeps this table. Flask-Login leaves who is signed in to the cookie, so that nothing can be
listed or ended. Flask-Session has a table, but of blobs that cannot be found by account; it replaces the session
interface of the whole app, and the pages are mounted in other people's; and it knows no tokens.
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
#: Seconds from signing in to the end, by kind.
LIFETIMES = {"pages": 12 * 3600, "token": 3600}
#: Sessions of one account and kind. One more ends the one that was used least lately.
MOST = 100
#: Seconds that a host's token is remembered, which lives as long as the host says: one that was ended here, or that
#: nobody used for :data:`IDLE`, must not begin anew.
HOSTS_TOKEN = 90 * 24 * 3600
#: Seconds between two notes that a session is in use.
STEP = 60
_SECRET = re.compile(r"[\w-]{43}")

Kind = Literal["pages", "token"]

metadata = sa.MetaData()


table = sa.Table(
    "pijobs_sign_in",
    metadata,
    sa.Column("id", exact_text(64), primary_key=True),
    # With the realm, where the host has realms.
    sa.Column("name", exact_text(255), nullable=False, index=True),
    sa.Column("kind", exact_text(8), nullable=False),
    # Of password and role: a session ends with either.
    sa.Column("fingerprint", exact_text(32), nullable=False),
    # All times in seconds since the epoch.
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    # When its owner last proved who it is.
    sa.Column("proved", sa.BigInteger, nullable=False),
    # 0: the second factor is still to come.
    sa.Column("whole", sa.Integer, nullable=False),
    # 1: it is over. Kept until its time: a host's token that is seen again must stay ended.
    sa.Column("ended", sa.Integer, nullable=False),
    sa.Column("address", exact_text(64), nullable=False),
    sa.Column("agent", exact_text(200), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)


@dataclass(frozen=True, slots=True)
class Session:
    """One session. Times are seconds since the epoch.

    :ivar id: by which its owner ends it; opens nothing.
    :ivar seen: the last request of a person, up to :data:`STEP` late.
    :ivar proved: when its owner last gave the password.
    :ivar whole: False: the second factor is still to come.
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

    Each method raises :class:`~pijobs.errors.DatabaseError` when the database does not do its part.
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
        """Begin one, and clear away what is over. Returns the secret that opens it.

        :param lifetime: seconds; default: of its kind.
        :param secret: of somebody else's token that becomes a session; default: a new one.
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
        """The session that the secret opens, unless it is over."""
        if not _SECRET.fullmatch(secret):
            return None
        return self._get(_id(secret), kind)

    def adopt(self, token: str, first: tuple[str, str, str, str]) -> Session | None:
        """The session of a host's token, from its first use on; None when it was ended here.

        :param first: name, fingerprint, address and agent, for the first use.
        """
        if self._row(_id(token)) is None:
            name, fingerprint, address, agent = first
            with suppress(DatabaseConflict):  # another first use of the same token, at the same moment
                self.begin(name, fingerprint, "token", address=address, agent=agent, secret=token, lifetime=HOSTS_TOKEN)
        return self._get(_id(token), "token")

    def use(self, session: Session) -> None:
        """Note that its owner made a request."""
        if (now := int(self._clock())) - session.seen >= STEP:
            self._update(session, seen=now)

    def prove(self, session: Session) -> None:
        """Note that its owner gave the password (and the second factor) anew."""
        self._update(session, proved=int(self._clock()), whole=1)

    def is_fresh(self, session: Session, seconds: float) -> bool:
        """Whether its owner proved within so many seconds who it is."""
        return 0 <= self._clock() - session.proved <= seconds

    def list(self, name: str) -> list[Session]:
        """Those of an account that are not over, the last used first."""
        now = int(self._clock())
        query = sa.select(table).where(table.c.name == name, *_alive(now)).order_by(table.c.seen.desc(), table.c.id)
        if not self._database.has(metadata):
            return []
        with self._database.read() as connection:
            return [_session(row) for row in connection.execute(query)]

    def end(self, name: str, id: str) -> bool:
        """End one of an account, by its id. Returns whether there was one."""
        return self._end(table.c.id == id, table.c.name == name) > 0

    def end_all(self, name: str) -> int:
        """Sign an account out everywhere. Returns of how many sessions."""
        return self._end(table.c.name == name)

    def forget(self, name: str) -> None:
        """End all of an account, and keep nothing of them."""
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
    # An ended one stays for its time, so that its token does not begin anew.
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
