"""SQLite, in a file."""

from __future__ import annotations

import os
import socket
import sqlite3
from typing import Any

from sqlalchemy import URL, Table, bindparam
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.dml import Insert

from pijobs.errors import ConfigurationError
from pijobs.storage.sql.dialects.dialect import Dialect, Trouble, is_unspeakable
from pijobs.storage.sql.room import log_limit


class Sqlite(Dialect):
    """SQLite, in a file."""

    name = "SQLite"
    begin = "BEGIN IMMEDIATE"
    enqueues_at_once = False
    one_writer = True
    server = False
    clock = bindparam("now_us")
    schema_lock = None
    version_query = "SELECT sqlite_version()"
    oldest = "SQLite 3.31"

    def __init__(self, url: URL) -> None:
        if url.database in (None, "", ":memory:") or url.query.get("mode") == "memory":
            raise ConfigurationError(
                "expected a file in the URL of an SQLite queue (sqlite:////var/lib/pijobs/queue.sqlite), found none; "
                "a database in memory can't be shared between server and worker"
            )
        if str(url.database).startswith("file:"):
            raise ConfigurationError("expected a plain path in the URL of an SQLite queue, found a file: URI")
        self.given_absolute = os.path.isabs(str(url.database))
        # The working directory may change (a daemon); the file must not.
        super().__init__(url.set(database=os.path.abspath(str(url.database))))

    @property
    def path(self) -> str:
        return str(self.url.database)

    def connect_args(self) -> dict[str, Any]:
        # We wait for locks ourselves: in steps of a millisecond, where SQLite's go up to 100, and limited by the call.
        return {"isolation_level": None, "check_same_thread": False, "timeout": 0}

    def require_fit(self, connection: Any) -> None:
        if sqlite3.sqlite_version_info < (3, 31):
            raise self._too_old(sqlite3.sqlite_version)

    def prepare(self, connection: Any, *, durable: bool) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        # Bodies are encrypted. Overwriting removed ones with zeros would take as much room in the log as they had, when
        # the disk may be full.
        connection.execute("PRAGMA secure_delete=FAST")
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        # While there are workers, only they copy the log back, because a request has no time for it.
        connection.execute(f"PRAGMA wal_autocheckpoint={log_limit(self.path, 2000 if durable else 1000)}")

    def socket_of(self, connection: Any) -> socket.socket | None:
        return None

    def insert_new(self, table: Table) -> Insert:
        return sqlite.insert(table).on_conflict_do_nothing()

    def insert_or_add(self, table: Table, column: str) -> Insert:
        new = sqlite.insert(table)
        return new.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={column: table.c[column] + new.excluded[column]}
        )

    def judge(self, error: BaseException) -> Trouble:
        if is_unspeakable(error):
            return Trouble.DATA
        text = str(error)
        # The code is there from Python 3.11 only.
        if isinstance(error, sqlite3.OperationalError) and ("locked" in text or "busy" in text):
            return Trouble.AGAIN
        if "no such table" in text:
            return Trouble.SCHEMA
        if isinstance(error, sqlite3.DataError) or "too big" in text:
            return Trouble.DATA
        return Trouble.FULL if "is full" in text else Trouble.LOST

    def tell(self, error: BaseException) -> str:
        return f"{error}: {self.path}"
