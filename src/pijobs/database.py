"""The database of an installation: definitions and accounts, by SQLAlchemy Core.

``SQLALCHEMY_DATABASE_URI``, or else the SQLite file ``pijobs.sqlite`` beside ``pi.cfg``. Only who needs it imports this
module: a worker whose queue is in Redis does not pay for SQLAlchemy unless a plugin asks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from pijobs.errors import DatabaseError
from pijobs.settings import Settings

FILE = "pijobs.sqlite"
BUSY_TIMEOUT = 5.0  # seconds that a writer waits for another one (SQLite)


class Database:
    """Connections to one database; made on first use, and made anew in a child process.

    :param url: as SQLAlchemy reads it.
    """

    def __init__(self, url: str | sa.URL) -> None:
        try:
            self._url = sa.make_url(url)
        except sa.exc.ArgumentError as error:
            raise DatabaseError("SQLALCHEMY_DATABASE_URI: expected a URL as SQLAlchemy reads it") from error
        self._engine: sa.Engine | None = None
        self._pid = 0
        self._ensured: set[int] = set()
        self._lock = threading.RLock()

    @classmethod
    def of(cls, settings: Settings) -> Database:
        """The database of an installation."""
        return settings.resource(cls, lambda: cls(settings["SQLALCHEMY_DATABASE_URI"] or _beside(settings.directory)))

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A connection in a transaction: committed at the end of the block, rolled back by an exception.

        :raises DatabaseError: when the database does not answer or refuses; without values or passwords.
        """
        try:
            with self._present().begin() as connection:
                yield connection
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise self._translated(error) from error

    def ensure(self, metadata: sa.MetaData) -> None:
        """Make the tables that are not there yet. Another process may make them at the same moment.

        :raises DatabaseError: as :meth:`begin`.
        """
        with self._lock:
            if id(metadata) in self._ensured:
                return
            try:
                metadata.create_all(self._present())
            except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.IntegrityError):
                # Somebody else was quicker; what is really wrong is wrong the second time, too.
                try:
                    metadata.create_all(self._present())
                except (sa.exc.SQLAlchemyError, OSError) as error:
                    raise self._translated(error) from error
            self._ensured.add(id(metadata))

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose(close=self._pid == os.getpid())
            self._engine = None

    def _present(self) -> sa.Engine:
        with self._lock:
            if self._engine is not None and self._pid != os.getpid():
                self._engine.dispose(close=False)  # the sockets are the parent's
                self._engine = None
            if self._engine is None:
                self._engine, self._pid = self._make(), os.getpid()
            return self._engine

    def _make(self) -> sa.Engine:
        if self._url.get_backend_name() != "sqlite":
            # Whoever prints a statement must not print what is in it.
            return sa.create_engine(self._url, hide_parameters=True, pool_pre_ping=True)
        if self._url.database not in (None, "", ":memory:"):
            _create_private(Path(str(self._url.database)))
        engine = sa.create_engine(self._url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
        return engine

    def _translated(self, error: Exception) -> DatabaseError:
        cause = getattr(error, "orig", None) or error
        shown = self._url.render_as_string(hide_password=True)
        return DatabaseError(f"the database {shown} refused or does not answer ({type(cause).__name__})")


def _beside(directory: Path) -> sa.URL:
    return sa.URL.create("sqlite", database=str(directory / FILE))


def _create_private(path: Path) -> None:
    """An empty file that only its owner can read, if there is none."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseError(f"expected a database file that can be written, found {path}: {error.strerror}") from error


def _prepare_sqlite(connection: object, record: object) -> None:
    # sqlite3 would begin by itself, and only at the first change: two readers that both want to write then deadlock.
    connection.isolation_level = None  # type: ignore[attr-defined]
    connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[attr-defined]


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
