"""The database of definitions and accounts, one for an installation, by SQLAlchemy Core.

``SQLALCHEMY_DATABASE_URI`` says where it is: SQLite, PostgreSQL or MariaDB; otherwise it is the file
``pijobs.sqlite`` beside ``pi.cfg``. In an app with Flask-SQLAlchemy it is that extension's database. Nothing connects
before the first transaction. Only who needs it imports this module: a worker whose queue is in Redis does not pay for
SQLAlchemy unless a plugin asks.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.pool import NullPool, QueuePool

from pijobs import files, threads
from pijobs.errors import (
    ConfigurationError,
    DatabaseConflict,
    DatabaseError,
    DatabaseUnavailable,
    StorageUnavailable,
)
from pijobs.forks import gate
from pijobs.redact import redact
from pijobs.settings import PREFIX, Settings
from pijobs.watching import FileWatch

T = TypeVar("T")

FILE = "pijobs.sqlite"
SETTING = "SQLALCHEMY_DATABASE_URI"
#: Of a database that is ours alone.
OWN = PREFIX + "DATABASE"
_PATIENCE = 5  # seconds for a connection, for a lock of SQLite, and for a free place in the pool
_ANSWER = 20  # seconds that MariaDB may take for one answer
_RECYCLE = 300  # seconds; firewalls forget idle connections sooner than servers do
_TRIES = 5  # of a transaction that met another one
_READ = "pijobs_read"
_PG_LOCK = "SELECT pg_advisory_xact_lock(7067382)"
_MY_LOCK, _MY_UNLOCK = f"SELECT GET_LOCK('pijobs_tables', {_ANSWER - 1})", "SELECT RELEASE_LOCK('pijobs_tables')"
#: Codes of MariaDB and SQLSTATEs of PostgreSQL for "another transaction was in the way, try again".
_CONFLICTS = frozenset({1020, 1205, 1213, "40001", "40P01"})


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
        self._url = _parsed(url, directory, older)
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
        if settings[OWN]:
            return cls(settings[OWN], settings.directory)
        engine = settings.engine()
        if engine is not None:
            return cls(engine.url, settings.directory, engine=engine)
        if settings[SETTING]:
            return cls(settings[SETTING], settings.instance, older=settings.older_directory)
        return cls(URL.create("sqlite", database=FILE), settings.directory, older=settings.older_directory)

    @property
    def place(self) -> str:
        """Where it is, for people: the full path of an SQLite file, else the URL without its password."""
        return str(self.file or self._url.render_as_string())

    @property
    def file(self) -> Path | None:
        """The SQLite file, if it is one."""
        return Path(str(self._url.database)) if _in_file(self._url) else None

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
            yield connection.execution_options(**{_READ: True})

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
        if self.file is not None and not self.file.exists():  # a look must not make it
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
        return f"<Database {self._url.render_as_string()}>"

    def _open(self) -> _Opened:
        pid = os.getpid()
        # setdefault is atomic; a lock could have been copied by the fork while another thread held it.
        return self._opened.get(pid) or self._opened.setdefault(pid, self._new())

    def _new(self) -> _Opened:
        if self._foreign is not None:
            return _Opened(self._foreign, foreign=True)
        if files.is_looking() and self.file is not None and not self.file.exists():
            return _Opened(_engine(URL.create("sqlite")))  # as empty as the file would be
        return _Opened(_engine(self._url))

    @contextmanager
    def _used(self) -> Iterator[None]:
        """No fork comes in between; only a file minds it."""
        if not _in_file(self._url):
            yield
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(gate.use(str(self._url.database), _PATIENCE))
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
            raise _translation(error, self._url) from error


def exact_text(length: int) -> sa.types.TypeEngine[str]:
    """A column of texts that differ by case; MariaDB compares without regard to it unless told.

    :param length: characters.
    """
    return _for_mariadb(sa.String(length), mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"))


def long_text() -> sa.types.TypeEngine[str]:
    """A column of texts of any length; MariaDB's own TEXT ends at 64 kB."""
    return _for_mariadb(sa.Text(), mysql.MEDIUMTEXT())


def _for_mariadb(general: sa.types.TypeEngine[T], special: sa.types.TypeEngine[T]) -> sa.types.TypeEngine[T]:
    """A type of column that MariaDB and MySQL spell in their own way."""
    # One by one: SQLAlchemy 1.4, which comes with older hosts, takes no two names.
    return general.with_variant(special, "mysql").with_variant(special, "mariadb")


def _parsed(url: str | URL, directory: Path, older: Path | None = None) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (sa.exc.ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        # Without the cause, which may quote the URL.
        raise ConfigurationError(
            f"{SETTING}: expected a URL as SQLAlchemy reads it, found one that it can't read ({type(error).__name__}); "
            "special characters of a password are written as %XX"
        ) from None
    if _in_file(parsed):
        file = (directory / str(parsed.database)).absolute()
        if older is not None and not file.exists() and (older / str(parsed.database)).exists():
            file = (older / str(parsed.database)).absolute()
        parsed = parsed.set(database=str(file))
    return parsed


def _in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:")


def _in_file(url: URL) -> bool:
    """Of SQLite, with a plain path."""
    plain = not _in_memory(url) and not str(url.database).startswith("file:")
    return url.get_backend_name() == "sqlite" and plain


def _engine(url: URL) -> Engine:
    options: dict[str, Any] = {"hide_parameters": True, "connect_args": _connect_args(url)}
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite and _in_memory(url):
        # It lives as long as its one connection.
        options |= {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": _PATIENCE}
    elif sqlite:
        # No idle connection may be there at a fork: see pijobs.forks.
        options |= {"poolclass": NullPool}
    else:
        options |= {"pool_pre_ping": True, "pool_recycle": _RECYCLE, "pool_timeout": _PATIENCE}
        # Also MariaDB, whose default locks gaps between rows, by which two inserts would meet.
        options |= {"isolation_level": "READ COMMITTED"}
    try:
        engine = sa.create_engine(url, **options)
    except ImportError as error:
        raise ConfigurationError(
            f"{SETTING}: expected a database whose driver is installed, found {url.drivername!r}: {error}; "
            "install pijobs[postgresql] for postgresql+psycopg:// or pijobs[mysql] for mysql+pymysql://"
        ) from error
    if sqlite:
        _listen(engine, url)
    elif url.get_driver_name() == "psycopg":
        sa.event.listen(engine, "do_connect", lambda *_: threads.let_greenlets_run())
    return engine


def _connect_args(url: URL) -> dict[str, Any]:
    options: dict[str, dict[str, Any]] = {
        "pysqlite": {"timeout": _PATIENCE, "check_same_thread": False},
        # Nothing is prepared: behind a PgBouncer the next transaction runs in another session.
        "psycopg": {
            "connect_timeout": _PATIENCE,
            "tcp_user_timeout": 2000 * _PATIENCE,
            "prepare_threshold": None,
        },
        "psycopg2": {"connect_timeout": _PATIENCE},
        "pymysql": {"connect_timeout": _PATIENCE, "read_timeout": _ANSWER, "write_timeout": _ANSWER},
    }
    given = options.get(url.get_driver_name(), {})
    return {name: value for name, value in given.items() if name not in url.query}


def _listen(engine: Engine, url: URL) -> None:
    """Transactions begin when we say so (Python's sqlite3 would begin them at the first change), in WAL mode."""

    def make_file(*_: object) -> None:
        if _in_file(url):
            _create(Path(str(url.database)))

    def prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        # Of a file with something in it the mode was chosen already, perhaps by somebody else.
        # Locked: another process switches the file over in this moment.
        with suppress(sqlite3.OperationalError):
            if connection.execute("PRAGMA page_count").fetchone() == (0,):
                connection.execute("PRAGMA journal_mode=WAL")

    def begin(connection: Connection) -> None:
        # A writer waits for its turn before it reads: SQLite refuses to turn a reader that was overtaken into a writer.
        reads = connection.get_execution_options().get(_READ)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    for name, listener in (("do_connect", make_file), ("connect", prepare), ("begin", begin)):
        sa.event.listen(engine, name, listener)


def _create(path: Path) -> None:
    """The file, readable by its owner only; the files that SQLite puts beside it take over its mode."""
    try:
        if path.parent.name == "instance":  # as Flask-SQLAlchemy does
            path.parent.mkdir(exist_ok=True)
        files.create(path)
    except FileExistsError as error:
        if reason := files.locked_out(path):
            raise DatabaseUnavailable(reason) from error
    except OSError as error:
        raise DatabaseUnavailable(
            f"{path}: expected a folder where this user may create the database, found: {error.strerror or error}; "
            f"create the folder, or set {SETTING}"
        ) from error


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


def _translation(error: sa.exc.DBAPIError | sa.exc.TimeoutError, url: URL) -> DatabaseError:
    place = url.database if url.get_backend_name() == "sqlite" else url.render_as_string()
    if isinstance(error, sa.exc.TimeoutError):
        return DatabaseUnavailable(f"{place}: expected a free connection within {_PATIENCE} s, found none")
    found = _told(error, url)
    if isinstance(error, sa.exc.IntegrityError) or _code(error) in _CONFLICTS:
        return DatabaseConflict(f"{place}: another transaction was there first: {found}")
    if error.connection_invalidated or isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
        return DatabaseUnavailable(f"{place}: expected a database that answers, found: {found}")
    return DatabaseError(f"{place}: the database refused a statement: {found}")


def _told(error: sa.exc.DBAPIError, url: URL) -> str:
    """What may be said of an error: a server's text may quote values, unless it is about the connection."""
    code, kind = _code(error), type(error.orig).__name__
    if error.statement is None or url.get_backend_name() == "sqlite":
        return f"{kind}: {redact(str(error.orig), [str(url.password)] if url.password else ())}"
    return f"{kind} {code}" if code else kind


def _code(error: sa.exc.DBAPIError) -> int | str | None:
    code: str | None = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    first = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return code or (first if isinstance(first, int) else None)
