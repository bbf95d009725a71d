"""One connection of a driver. It runs statements that SQLAlchemy compiled.

SQLAlchemy Core builds each statement and compiles it once for each kind of database; after that the driver gets the
finished text. That is five to ten times quicker than executing through SQLAlchemy, which matters because a login waits
for it.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.sql.elements import ClauseElement

from pijobs.storage.sql.dialects.dialect import Dialect

Row = Sequence[Any]


class Statement:
    """A statement, its columns to set (for INSERT and UPDATE), and its text for one dialect once it has been run."""

    __slots__ = ("_columns", "_constants", "_core", "_names", "_sql")

    def __init__(self, core: ClauseElement, columns: Sequence[str] | None = None) -> None:
        self._core = core
        self._columns = list(columns) if columns is not None else None
        self._sql: str | None = None
        self._names: tuple[str, ...] | None = None
        self._constants: dict[str, Any] = {}

    def text(self, engine: Engine) -> str:
        if self._sql is None:
            compiled: Any = self._core.compile(engine, column_keys=self._columns)
            self._names = tuple(compiled.positiontup) if compiled.positional else None
            self._constants = {name: value for name, value in compiled.params.items() if value is not None}
            self._sql = str(compiled)
        return self._sql

    def arguments(self, parameters: Mapping[str, Any]) -> Sequence[Any] | Mapping[str, Any]:
        """In the form that the driver needs; after :meth:`text`."""
        values = {**self._constants, **parameters} if self._constants else parameters
        return values if self._names is None else [values[name] for name in self._names]


class Link:
    """One connection in autocommit mode; transactions begin explicitly. Two threads must not use it at once."""

    def __init__(self, engine: Engine, dialect: Dialect, *, durable: bool) -> None:
        self._engine = engine
        # Kept, because it would close the connection when it is removed.
        self._fairy = engine.raw_connection()
        connection: Any = self._fairy.driver_connection
        self._fairy.detach()
        self.connection = connection
        self._socket: socket.socket | None = None
        self._incoming: select.poll | None = None
        self._begin = dialect.begin
        #: Whether the protocol of the database was checked.
        self.looked = False
        #: The identity of the database file when this was opened.
        self.file: tuple[int, int] | None = None
        try:
            self._socket = dialect.socket_of(connection)
            if self._socket is not None:
                self._incoming = select.poll()
                self._incoming.register(self._socket, select.POLLIN)
            dialect.prepare(connection, durable=durable)
            self._cursor: Any = connection.cursor()
        except BaseException:
            self.close()
            raise

    def rows(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        text = statement.text(self._engine)
        self._cursor.execute(text, statement.arguments(parameters))
        found: list[Row] = self._cursor.fetchall()
        return found

    def change(self, statement: Statement, parameters: Mapping[str, Any]) -> int:
        """Run it; returns the number of rows."""
        text = statement.text(self._engine)
        self._cursor.execute(text, statement.arguments(parameters))
        return int(self._cursor.rowcount)

    def many(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run it for each; returns the number of rows."""
        text = statement.text(self._engine)
        if not rows:
            return 0
        if len(rows) == 1:
            self._cursor.execute(text, statement.arguments(rows[0]))
        else:
            self._cursor.executemany(text, [statement.arguments(row) for row in rows])
        return int(self._cursor.rowcount)

    def run(self, sql: str) -> list[Row]:
        """Plain SQL without parameters."""
        self._cursor.execute(sql)
        return self._cursor.fetchall() if self._cursor.description else []

    def begin(self) -> None:
        self._cursor.execute(self._begin)

    def commit(self) -> None:
        self._cursor.execute("COMMIT")

    def rollback(self) -> None:
        self._cursor.execute("ROLLBACK")

    def hang_up(self) -> None:
        """End any wait of the connection; called from another thread."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(Exception):
            if self._socket is not None:
                self._socket.close()
        with suppress(Exception):
            self.connection.close()

    def is_open(self) -> bool:
        """Whether it is open, without a round trip: a server that sends something unasked has closed it."""
        if self._incoming is None:
            return True
        # Not recv() with MSG_DONTWAIT: gevent's would wait anyway.
        return not self._incoming.poll(0)
