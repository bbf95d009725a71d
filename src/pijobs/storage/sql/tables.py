"""Makes the tables that are missing when somebody uses the database for the first time, or with a newer release for the
first time, however many do so at once."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Engine
from sqlalchemy.schema import CreateIndex, CreateTable

from pijobs.errors import ConfigurationError
from pijobs.storage.sql.dialect import Dialect, Mariadb, Trouble
from pijobs.storage.sql.link import Link
from pijobs.storage.sql.schema import OLDEST_VERSION, SCHEMA_VERSION, metadata
from pijobs.storage.sql.statements import Statements


def ensure_tables(link: Link, dialect: Dialect, engine: Engine, statements: Statements, queue: str) -> None:
    """Make the tables and the row of the queue, if they are not there.

    :raises ConfigurationError: for tables of another version.
    """
    version = _version(link, dialect, statements)
    if version is None or OLDEST_VERSION <= version < SCHEMA_VERSION:
        _create(link, dialect, engine, statements)
    elif version != SCHEMA_VERSION:
        raise ConfigurationError(
            f"expected version {SCHEMA_VERSION} of the tables pijobs_*, found version {version}; use the same release "
            "of pijobs everywhere, or another database"
        )
    if not link.rows(statements.queue, {"queue": queue}):
        _quietly(link, dialect, statements, queue)


def _version(link: Link, dialect: Dialect, statements: Statements) -> int | None:
    try:
        found = link.rows(statements.version, {})
    except Exception as error:
        if dialect.judge(error) is Trouble.SCHEMA:
            return None
        raise
    return int(found[0][0]) if found else None


def _create(link: Link, dialect: Dialect, engine: Engine, statements: Statements) -> None:
    transactional = not isinstance(dialect, Mariadb)
    if transactional:
        link.begin()
    try:
        if dialect.schema_lock:
            link.run(dialect.schema_lock)
        for sql in _ddl(engine, dialect):
            _execute(link, dialect, sql)
        # Written last: until then the next one starts over.
        try:
            link.change(statements.set_version, {"name": "schema", "value": SCHEMA_VERSION})
        except Exception as error:
            if dialect.judge(error) is not Trouble.DUPLICATE:
                raise
        link.change(statements.raise_version, {"value": SCHEMA_VERSION})
        if transactional:
            link.commit()
    finally:
        if dialect.schema_unlock:
            link.run(dialect.schema_unlock)


def _ddl(engine: Engine, dialect: Dialect) -> Iterator[str]:
    # MySQL knows no CREATE INDEX IF NOT EXISTS.
    careful = not isinstance(dialect, Mariadb)
    for table in metadata.sorted_tables:
        yield str(CreateTable(table, if_not_exists=True).compile(engine))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            yield str(CreateIndex(index, if_not_exists=careful).compile(engine))


def _execute(link: Link, dialect: Dialect, sql: str) -> None:
    duplicate_key_name = 1061
    try:
        link.run(sql)
    except Exception as error:
        if not (isinstance(dialect, Mariadb) and error.args and error.args[0] == duplicate_key_name):
            raise


def _quietly(link: Link, dialect: Dialect, statements: Statements, queue: str) -> None:
    try:
        link.change(statements.insert_queue, {"name": queue, "paused": 0})
    except Exception as error:
        if dialect.judge(error) is not Trouble.DUPLICATE:
            raise
