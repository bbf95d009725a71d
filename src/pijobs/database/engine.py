"""From a URL to an engine of SQLAlchemy, and how its connections begin."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.pool import NullPool, QueuePool

from pijobs.base import files, threads
from pijobs.errors import ConfigurationError, DatabaseUnavailable

SETTING = "SQLALCHEMY_DATABASE_URI"
PATIENCE = 5  # seconds for a connection, for a lock of SQLite, and for a free place in the pool
ANSWER = 20  # seconds that MariaDB may take for one answer
#: Execution option of a connection that only reads.
READ = "pijobs_read"
_RECYCLE = 300  # seconds; firewalls forget idle connections sooner than servers do


def parsed_url(url: str | URL, directory: Path, older: Path | None = None) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
        if parsed.get_backend_name() == "sqlite" and parsed.host:
            raise ValueError("a file has no host")
        if parsed.get_driver_name() == "pymysql" and (charset := parsed.query.get("charset")):
            _require_charset(str(charset))
    except (sa.exc.ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        # Without the cause, which may quote the URL.
        raise ConfigurationError(
            f"{SETTING}: expected a URL as SQLAlchemy reads it, found one that it can't read ({type(error).__name__}); "
            "special characters of a password are written as %XX"
        ) from None
    if in_file(parsed):
        file = (directory / str(parsed.database)).absolute()
        # Not Path.exists, which raises where it may not look: as another user, in the folder where root stood.
        if older is not None and not os.path.exists(file) and os.path.exists(older / str(parsed.database)):
            file = (older / str(parsed.database)).absolute()
        parsed = parsed.set(database=str(file))
    return parsed


def _require_charset(name: str) -> None:
    """PyMySQL trips over one that it does not know.

    :raises ValueError: for that.
    """
    try:
        from pymysql.charset import charset_by_name  # type: ignore[import-untyped]
    except ImportError:  # told when the engine is made
        return
    if charset_by_name(name) is None:
        raise ValueError("an unknown charset")


def in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:")


def in_file(url: URL) -> bool:
    """Of SQLite, with a plain path."""
    plain = not in_memory(url) and not str(url.database).startswith("file:")
    return url.get_backend_name() == "sqlite" and plain


def engine_of(url: URL) -> Engine:
    options: dict[str, Any] = {"hide_parameters": True, "connect_args": _connect_args(url)}
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite and in_memory(url):
        # It lives as long as its one connection.
        options |= {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": PATIENCE}
    elif sqlite:
        # No idle connection may be there at a fork: see pijobs.base.forks.
        options |= {"poolclass": NullPool}
    else:
        options |= {"pool_pre_ping": True, "pool_recycle": _RECYCLE, "pool_timeout": PATIENCE}
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
        "pysqlite": {"timeout": PATIENCE, "check_same_thread": False},
        # Nothing is prepared: behind a PgBouncer the next transaction runs in another session.
        "psycopg": {
            "connect_timeout": PATIENCE,
            "tcp_user_timeout": 2000 * PATIENCE,
            "prepare_threshold": None,
        },
        "psycopg2": {"connect_timeout": PATIENCE},
        "pymysql": {"connect_timeout": PATIENCE, "read_timeout": ANSWER, "write_timeout": ANSWER},
    }
    given = options.get(url.get_driver_name(), {})
    return {name: value for name, value in given.items() if name not in url.query}


def _listen(engine: Engine, url: URL) -> None:
    """Transactions begin when we say so (Python's sqlite3 would begin them at the first change), in WAL mode."""

    def make_file(*_: object) -> None:
        if in_file(url):
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
        reads = connection.get_execution_options().get(READ)
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
