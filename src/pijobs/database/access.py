"""The database of definitions and accounts, one for an installation, by SQLAlchemy Core.

``SQLALCHEMY_DATABASE_URI`` says where it is: SQLite, PostgreSQL or MariaDB; otherwise it is the file
``pijobs.sqlite`` beside ``pi.cfg``. In an app with Flask-SQLAlchemy it is that extension's database. Nothing connects
before the first transaction. Only who needs it imports this module: a worker whose queue is in Redis does not pay for
SQLAlchemy unless a plugin asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from pijobs.base import files, threads
from pijobs.base.forks import gate
from pijobs.base.masks import masked_query
from pijobs.database.changes import FileWatch
from pijobs.database.engine import ANSWER, PATIENCE, READ, engine_of, in_file, parsed_url
from pijobs.database.failures import translated
from pijobs.errors import DatabaseConflict, DatabaseUnavailable, StorageUnavailable
from pijobs.settings import Settings

T = TypeVar("T")

FILE = "pijobs.sqlite"
_TRIES = 5  # of a transaction that met another one
_PG_LOCK = "SELECT pg_advisory_xact_lock(7067382)"
_MY_LOCK, _MY_UNLOCK = f"SELECT GET_LOCK('pijobs_tables', {ANSWER - 1})", "SELECT RELEASE_LOCK('pijobs_tables')"


class _Opened:
    """What one process has of the database. :ivar foreign: whether the engine belongs to the app."""

    def __init__(self, engine: Engine, *, foreign: bool = False) -> None:
        self.engine = engine
        self.foreign = foreign
        self.ensured: set[sa.MetaData] = set()
        #: Many threads that begin at once need the tables, but not each a transaction that looks for them.
        self.ensuring = threads.Lock()


class Database:
    """Transactions in one database.

    :param url: as SQLAlchemy reads it.
    :param directory: what a relative path of an SQLite file starts from. Not the working directory: server and worker
        may have different ones.
    :param older: where releases before 0.2.0 began: a file that is only there is used on.
    :param engine: gives the app's own engine; what is made of the URL then is only shown.
    :raises ConfigurationError: for a URL that can't be read, or whose driver is not installed.
    """

    def __init__(
        self, url: str | URL, directory: Path, *, older: Path | None = None, engine: Engine | None = None
    ) -> None:
        self._url = parsed_url(url, directory, older)
        # An SQLite file is opened by an engine of our own: SQLite counts its locks by process, and the app's engine may
        # keep connections open over a fork.
        self._foreign = None if self.file is not None else engine
        # By process: after a fork the child must neither use nor close what its parent has open. (What it does not
        # touch stays referenced, so that it is not closed by the garbage collector either.)
        self._opened: dict[int, _Opened] = {}
        self._watch = None if self.file is None else FileWatch(str(self.file))

    @classmethod
    def of(cls, settings: Settings) -> Database:
        """The database of an installation."""
        return settings.resource(cls, lambda: cls._of(settings))

    @classmethod
    def _of(cls, settings: Settings) -> Database:
        if settings.database:
            return cls(settings.database, settings.directory)
        engine = settings.engine()
        if engine is not None:
            return cls(engine.url, settings.directory, engine=engine)
        if settings.sqlalchemy_database_uri:
            return cls(settings.sqlalchemy_database_uri, settings.instance, older=settings.older_directory)
        return cls(URL.create("sqlite", database=FILE), settings.directory, older=settings.older_directory)

    @property
    def place(self) -> str:
        """Where it is, for people: the full path of an SQLite file, else the URL without its password."""
        return str(self.file or masked_query(self._url.render_as_string()))

    @property
    def file(self) -> Path | None:
        """The SQLite file, if it is one."""
        return Path(str(self._url.database)) if in_file(self._url) else None

    def version(self) -> Hashable | None:
        """Another value after each change, whoever made it, for who keeps what was read: ask before reading.

        None: only reading tells. A server would have to be asked, too.
        """
        return None if self._watch is None or files.is_looking() else self._watch.version()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A connection in a transaction, which is committed at the end, and undone by an exception.

        :raises DatabaseUnavailable: when the database does not answer.
        :raises DatabaseConflict: when another transaction was there first; see :meth:`run`.
        :raises DatabaseError: when the database refuses a statement.
        """
        opened = self._open()
        with self._used(), self._translated(opened), opened.engine.begin() as connection:
            if opened.foreign and connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Like :meth:`begin`, for reading only: does not wait for writers of an SQLite file.

        :raises DatabaseError: as :meth:`begin`.
        """
        opened = self._open()
        with self._used(), self._translated(opened), opened.engine.connect() as connection:
            yield connection.execution_options(**{READ: True})

    def run(self, work: Callable[[Connection], T]) -> T:
        """The result of ``work``, done in a transaction; begun anew when it met another transaction.

        :raises DatabaseError: as :meth:`begin`.
        """
        for _ in range(_TRIES - 1):
            with suppress(DatabaseConflict), self.begin() as connection:
                return work(connection)
        with self.begin() as connection:
            return work(connection)

    def ensure(self, metadata: sa.MetaData) -> None:
        """Create the tables that are not there, once in each process; several processes at once do no harm.

        :raises DatabaseError: as :meth:`begin`.
        """
        opened = self._open()
        if metadata in opened.ensured:
            return
        with opened.ensuring:
            if metadata not in opened.ensured:
                with self.begin() as connection, _alone(connection):
                    metadata.create_all(connection)
                opened.ensured.add(metadata)

    def has(self, metadata: sa.MetaData) -> bool:
        """Whether the tables are there. Who only reads creates none: the database may be somebody else's.

        :raises DatabaseError: as :meth:`begin`.
        """
        # A look must not make it.
        if self.file is not None and not _is_there(self.file):
            return False
        opened = self._open()
        if metadata not in opened.ensured:
            with self.read() as connection:
                inspector = sa.inspect(connection)
                if not all(inspector.has_table(name) for name in metadata.tables):
                    return False
            opened.ensured.add(metadata)
        return True

    def close(self) -> None:
        """Close the idle connections of this process; the next use opens new ones."""
        if self._watch is not None:
            self._watch.close()
        opened = self._opened.pop(os.getpid(), None)
        if opened is not None and not opened.foreign:
            opened.engine.dispose()

    def __repr__(self) -> str:
        return f"<Database {self.place}>"

    def _open(self) -> _Opened:
        pid = os.getpid()
        # setdefault is atomic; a lock could have been copied by the fork while another thread held it.
        return self._opened.get(pid) or self._opened.setdefault(pid, self._new())

    def _new(self) -> _Opened:
        if self._foreign is not None:
            return _Opened(self._foreign, foreign=True)
        if files.is_looking() and self.file is not None and not _is_there(self.file):
            return _Opened(engine_of(URL.create("sqlite")))  # as empty as the file would be
        return _Opened(engine_of(self._url))

    @contextmanager
    def _used(self) -> Iterator[None]:
        """No fork comes in between; only a file minds it."""
        if not in_file(self._url):
            yield
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(gate.use(str(self._url.database), PATIENCE))
            except StorageUnavailable as error:
                raise DatabaseUnavailable(str(error)) from error
            yield

    @contextmanager
    def _translated(self, opened: _Opened) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            # The tables may be gone: next time it is looked again.
            opened.ensured.clear()
            raise translated(error, self._url) from error


def _is_there(file: Path) -> bool:
    """Whether there is a database, however empty.

    :raises DatabaseUnavailable: this user may not look. To take it for empty would tell 'pijobs keys retire' that no
        secret needs the old key.
    """
    try:
        file.stat()
    except PermissionError as error:
        raise DatabaseUnavailable(f"{file}: expected a folder that this user may look into, found another") from error
    except OSError:
        return False
    return True


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """No other process creates tables meanwhile. With SQLite the transaction alone sees to that."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_PG_LOCK)
    if connection.dialect.name not in ("mysql", "mariadb"):
        yield
        return
    connection.exec_driver_sql(_MY_LOCK)
    try:
        yield
    finally:
        connection.exec_driver_sql(_MY_UNLOCK)
