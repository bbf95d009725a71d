"""Makes the tables that are missing when somebody uses the database for the first time, or with a newer release for the
first time, however many do so at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from pijobs.errors import ConfigurationError
from pijobs.storage.sql.dialect import Dialect, Mariadb, Sqlite, Trouble
from pijobs.storage.sql.link import Link, Statement
from pijobs.storage.sql.schema import ADDED, ADDITIONS, FILLED, OLDEST_VERSION, SCHEMA_VERSION, metadata
from pijobs.storage.sql.statements import Statements


def ensure_tables(link: Link, dialect: Dialect, engine: Engine, statements: Statements, queue: str) -> None:
    """Make the tables and the row of the queue, if they are not there.

    :raises ConfigurationError: for tables of another version.
    """
    version = _value(link, dialect, statements.version)
    if version is not None and not OLDEST_VERSION <= version <= SCHEMA_VERSION:
        raise ConfigurationError(
            f"expected version {SCHEMA_VERSION} of the tables pijobs_*, found version {version}; use the same release "
            "of pijobs everywhere, or another database"
        )
    if version != SCHEMA_VERSION or (_value(link, dialect, statements.additions) or 0) < ADDITIONS:
        _create(link, dialect, engine, statements, filled=() if version is None else FILLED)
    if not link.rows(statements.queue, {"queue": queue}):
        _quietly(link, dialect, statements.insert_queue, {"name": queue, "paused": 0})


def _value(link: Link, dialect: Dialect, statement: Statement) -> int | None:
    try:
        found = link.rows(statement, {})
    except Exception as error:
        if dialect.judge(error) is Trouble.SCHEMA:
            return None
        raise
    return int(found[0][0]) if found else None


def _create(link: Link, dialect: Dialect, engine: Engine, statements: Statements, *, filled: Sequence[str]) -> None:
    transactional = not isinstance(dialect, Mariadb)
    if transactional:
        link.begin()
    try:
        if dialect.schema_lock:
            link.run(dialect.schema_lock)
        for sql in _ddl(engine, dialect):
            _execute(link, dialect, sql)
        for sql in filled:
            link.run(sql)
        # Written last: until then the next one starts over.
        for name, value in (("schema", SCHEMA_VERSION), ("additions", ADDITIONS)):
            _quietly(link, dialect, statements.set_version, {"name": name, "value": value})
        link.change(statements.raise_version, {"value": SCHEMA_VERSION})
        link.change(statements.note_additions, {"value": ADDITIONS})
        if transactional:
            link.commit()
    finally:
        if dialect.schema_unlock:
            link.run(dialect.schema_unlock)


def _ddl(engine: Engine, dialect: Dialect) -> Iterator[str]:
    # MySQL knows no CREATE INDEX IF NOT EXISTS, and SQLite no ADD COLUMN IF NOT EXISTS.
    careful = not isinstance(dialect, Mariadb)
    for table in metadata.sorted_tables:
        yield str(CreateTable(table, if_not_exists=True).compile(engine))
    for column in ADDED:
        if_new = "IF NOT EXISTS " if careful and dialect.server else ""
        yield f"ALTER TABLE {column.table.name} ADD COLUMN {if_new}{CreateColumn(column).compile(engine)}"
    for table in metadata.sorted_tables:
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            yield str(CreateIndex(index, if_not_exists=careful).compile(engine))


def _execute(link: Link, dialect: Dialect, sql: str) -> None:
    duplicate_column_name, duplicate_key_name = 1060, 1061
    try:
        link.run(sql)
    except Exception as error:
        if isinstance(dialect, Mariadb) and error.args and error.args[0] in (duplicate_column_name, duplicate_key_name):
            return
        if isinstance(dialect, Sqlite) and "duplicate column name" in str(error):
            return
        raise


def _quietly(link: Link, dialect: Dialect, statement: Statement, values: Mapping[str, Any]) -> None:
    """Insert a row, if nobody else did."""
    try:
        link.change(statement, values)
    except Exception as error:
        if dialect.judge(error) is not Trouble.DUPLICATE:
            raise
