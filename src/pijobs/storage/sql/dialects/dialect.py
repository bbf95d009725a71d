"""Everything that differs between the databases. What a commit promises, and by which setting:

* SQLite: WAL mode. An enqueue, and what an admin does, is committed with ``synchronous=FULL``: it survives a power cut.
  What workers do is committed with ``synchronous=NORMAL``: it survives the death of any process, while a power cut may
  take back the last acknowledgements, which only repeats those jobs.
* PostgreSQL and MariaDB: as the server is configured; both flush each commit by default.
"""

from __future__ import annotations

import os
import socket
from enum import Enum, auto
from typing import Any, ClassVar

from sqlalchemy import URL, ColumnElement, Table, literal_column
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.dml import Insert

from pijobs.errors import StorageUnfit

#: Seconds after which an attempt to connect to a server is given up.
CONNECT_TIMEOUT = 5


class Trouble(Enum):
    """What an error of the driver means for the transaction."""

    #: It conflicts with another one: a repetition may succeed.
    AGAIN = auto()
    #: The connection can't be used any more.
    LOST = auto()
    #: There is no room left on the disk; the connection can't be used any more.
    FULL = auto()
    #: The user may not do that.
    RIGHT = auto()
    #: A table is missing: somebody threw the database away.
    SCHEMA = auto()
    #: A unique key is taken.
    DUPLICATE = auto()
    #: A value that this database does not accept: too large, or with unknown characters.
    DATA = auto()
    #: Anything else.
    OTHER = auto()


class Dialect:
    """PostgreSQL, and what most databases have in common."""

    name = "PostgreSQL"
    begin: ClassVar[str] = "BEGIN ISOLATION LEVEL READ COMMITTED"
    #: Whether writers wait for each other anyway, so that rows need no locks.
    one_writer: ClassVar[bool] = False
    server: ClassVar[bool] = True
    #: Whether one statement can store an instance and return the result: :mod:`pijobs.storage.sql.at_once`.
    enqueues_at_once: ClassVar[bool] = True
    #: The database's clock in microseconds; without a server it is the host's clock.
    clock: ColumnElement[Any] = literal_column("CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)")
    #: Of a new connection.
    settings: tuple[str, ...] = (
        # The session of a client that hung up ends soon.
        "SET statement_timeout = '15s'",
        "SET idle_in_transaction_session_timeout = '30s'",
    )
    schema_lock: ClassVar[str | None] = "SELECT pg_advisory_xact_lock(7067381)"
    schema_unlock: ClassVar[str | None] = None
    version_query = "SELECT current_setting('server_version')"
    oldest: ClassVar[str] = "PostgreSQL 12"
    #: The most bytes of a statement, if the server hangs up on a larger one; read with the first connection.
    largest: int | None = None

    def __init__(self, url: URL) -> None:
        self.url = url

    @property
    def core(self) -> Any:
        """SQLAlchemy's dialect, which writes the SQL."""
        return self.url.get_dialect()()

    def connect_args(self) -> dict[str, Any]:
        given = self.url.query
        options = {"connect_timeout": CONNECT_TIMEOUT, "keepalives_idle": 30, "tcp_user_timeout": 10_000}
        return {name: value for name, value in options.items() if name not in given}

    def prepare(self, connection: Any, *, durable: bool) -> None:
        """Put a new connection of the driver into autocommit mode, and apply its settings."""
        self._autocommit(connection)
        if self._is_pooled(connection):
            return
        cursor = connection.cursor()
        for setting in self.settings:
            cursor.execute(setting)
        cursor.close()

    def require_fit(self, connection: Any) -> None:
        """Check what the server reported when it accepted the connection; costs no round trip.

        :raises StorageUnfit: for a server that is too old, or a database that can't store every text.
        """
        version = connection.info.server_version
        if version < 120_000:
            raise self._too_old(f"{version // 10_000}.{version % 10_000}")
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StorageUnfit(
                f"expected a PostgreSQL database with the encoding UTF8, found {encoding}, which can't hold every "
                "text; make one by CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
            )

    def _too_old(self, version: str) -> StorageUnfit:
        return StorageUnfit(f"expected {self.oldest} or later, found version {version}; upgrade the server")

    def _autocommit(self, connection: Any) -> None:
        connection.autocommit = True

    def _is_pooled(self, connection: Any) -> bool:
        """Whether a PgBouncer or a similar proxy is before the server: the process that answers did not accept the
        connection. Each transaction may then run in another session, which other programs use in between. So nothing is
        prepared or set in it.
        """
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pooled = bool(cursor.fetchone()[0] != connection.info.backend_pid)
        if pooled:
            connection.prepare_threshold = None
        return pooled

    def socket_of(self, connection: Any) -> socket.socket | None:
        """A second handle of the connection's socket, with which another thread can end a wait."""
        return socket.socket(fileno=os.dup(connection.fileno()))

    def insert_new(self, table: Table) -> Insert:
        """An INSERT that does nothing if the row exists, and shows this by its row count."""
        return postgresql.insert(table).on_conflict_do_nothing()

    def insert_or_add(self, table: Table, column: str) -> Insert:
        """An INSERT that adds to one column if the row exists."""
        new = postgresql.insert(table)
        return new.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={column: table.c[column] + new.excluded[column]}
        )

    def judge(self, error: BaseException) -> Trouble:
        if is_unspeakable(error):
            return Trouble.DATA
        code = getattr(error, "sqlstate", None)
        # Inserts handle conflicts themselves, so here an instance came back to wait while another one took its key.
        if code in ("40001", "40P01", "23505"):
            return Trouble.AGAIN
        if code == "42P01":
            return Trouble.SCHEMA
        if code == "42501":
            return Trouble.RIGHT
        # 25006: the server behind the connection became a replica, or all of its databases read-only.
        if code is None or code[:2] in ("08", "57") or code in ("25006", "25P03"):
            return Trouble.LOST
        if code[:2] in ("22", "54"):
            return Trouble.DATA
        return Trouble.OTHER

    def tell(self, error: BaseException) -> str:
        """What may be shown of an error: its kind and code; a server's text may quote parameters."""
        code = getattr(error, "sqlstate", None)
        why = ", the server is read-only" if code == "25006" else ""
        return f"{type(error).__name__} {code}{why}" if code else type(error).__name__

    def tell_right(self, error: BaseException) -> str:
        """Which right is missing: the server's own words, which name a table or a schema and quote no value."""
        return str(getattr(getattr(error, "diag", None), "message_primary", None) or self.tell(error))


def is_unspeakable(error: BaseException) -> bool:
    """Whether the driver refused to send a text: psycopg sends no NUL, and no driver sends half of a surrogate pair."""
    unsent = type(error).__name__ == "DataError" and getattr(error, "sqlstate", "") is None
    return unsent or isinstance(error, UnicodeError)
