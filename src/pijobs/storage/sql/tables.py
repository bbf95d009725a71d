"""Creates missing tables at the first use of a database, or of a newer release. Many processes may do so at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from pijobs.storage import protocol
from pijobs.storage.sql.connection import Link, Statement
from pijobs.storage.sql.dialects import dialect_for
from pijobs.storage.sql.dialects.dialect import Dialect, Trouble
from pijobs.storage.sql.dialects.mariadb import Mariadb
from pijobs.storage.sql.dialects.sqlite import Sqlite
from pijobs.storage.sql.schema import ADDED, ADDITIONS, FILLED, FIRST_VERSION, NEW_INDEXES, metadata
from pijobs.storage.sql.statements import Statements
from pijobs.storage.sql.transactions import Tx


def ensure_tables(link: Link, dialect: Dialect, statements: Statements, queue: str) -> int:
    """Create the tables and the row of the queue if they are missing; returns the protocol.

    :raises StorageVersion: for tables of an unsupported release.
    """
    told = _told(link, dialect, statements)
    number = _judged(told, dialect)
    if number is None or told.get("additions", 0) < ADDITIONS:
        _create(link, dialect, statements, filled=FILLED if told else ())
    if not link.rows(statements.queue, {"queue": queue}):
        _quietly(link, dialect, statements.insert_queue, {"name": queue, "paused": 0})
    return number or FIRST_VERSION


def set_protocol(tx: Tx, number: int, oldest_reader: int) -> None:
    """See :meth:`pijobs.storage.contract.Storage.set_protocol`."""
    for name, value in (("schema", number), ("oldest_reader", oldest_reader)):
        tx.insert(tx.st.insert_meta, name=name, value=value)
        tx.change(tx.st.change_meta, b_name=name, value=value)


def step_down(tx: Tx) -> None:
    """Remove what the tables of the previous release did not have. A process of this release adds it again."""
    names = {column.name for column in ADDED}
    for table in metadata.sorted_tables:
        for index in table.indexes:
            if index.name in NEW_INDEXES or names & {column.name for column in index.columns}:
                on = f" ON {table.name}" if isinstance(tx.dialect, Mariadb) else ""
                tx.link.run(f"DROP INDEX {index.name}{on}")
    for column in ADDED:
        tx.link.run(f"ALTER TABLE {column.table.name} DROP COLUMN {column.name}")
    tx.link.run("DELETE FROM pijobs_meta WHERE name IN ('additions', 'oldest_reader')")


def _told(link: Link, dialect: Dialect, statements: Statements) -> dict[str, int]:
    """What the database says about its tables; empty if there are none."""
    try:
        return {name: int(value) for name, value in link.rows(statements.meta, {})}
    except Exception as error:
        if dialect.judge(error) is Trouble.SCHEMA:
            return {}
        raise


def _judged(told: Mapping[str, int], dialect: Dialect) -> int | None:
    """The protocol; None if the tables must be created first."""
    number = told.get("schema")
    if number is None or 0 < number < FIRST_VERSION:
        return None
    # A process that raises the number also writes the oldest reader; without it the tables are of an unknown release.
    unknown = number if number == FIRST_VERSION else protocol.NEWEST + 1
    return protocol.judge(number, told.get("oldest_reader", unknown), f"the database ({dialect.name})")


def _create(link: Link, dialect: Dialect, statements: Statements, *, filled: Sequence[str]) -> None:
    transactional = not isinstance(dialect, Mariadb)
    if transactional:
        link.begin()
    try:
        if dialect.schema_lock:
            link.run(dialect.schema_lock)
        for sql in _ddl(dialect):
            _execute(link, dialect, sql)
        for sql in filled:
            link.run(sql)
        # Written last: until then the next process starts again. Another one may have raised the protocol meanwhile.
        if _told(link, dialect, statements).get("schema", 0) < FIRST_VERSION:
            _put(link, dialect, statements, "schema", FIRST_VERSION)
        _put(link, dialect, statements, "additions", ADDITIONS)
        if transactional:
            link.commit()
    finally:
        if dialect.schema_unlock:
            link.run(dialect.schema_unlock)


def _put(link: Link, dialect: Dialect, statements: Statements, name: str, value: int) -> None:
    _quietly(link, dialect, statements.insert_meta, {"name": name, "value": value})
    link.change(statements.change_meta, {"b_name": name, "value": value})


def _ddl(dialect: Dialect) -> Iterator[str]:
    yield from _tables(dialect)
    yield from _additions(dialect)
    yield from _indexes(dialect)


# MySQL has no CREATE INDEX IF NOT EXISTS, and SQLite no ADD COLUMN IF NOT EXISTS.


def _tables(dialect: Dialect) -> Iterator[str]:
    for table in metadata.sorted_tables:
        yield str(CreateTable(table, if_not_exists=True).compile(dialect=dialect.core))


def _additions(dialect: Dialect) -> Iterator[str]:
    if_new = "IF NOT EXISTS " if dialect.server and not isinstance(dialect, Mariadb) else ""
    for column in ADDED:
        text = CreateColumn(column).compile(dialect=dialect.core)
        yield f"ALTER TABLE {column.table.name} ADD COLUMN {if_new}{text}"


def _indexes(dialect: Dialect) -> Iterator[str]:
    careful = not isinstance(dialect, Mariadb)
    for table in metadata.sorted_tables:
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            yield str(CreateIndex(index, if_not_exists=careful).compile(dialect=dialect.core))


def script(url: str, user: str | None) -> str:
    """SQL that creates the tables as this release does, and grants a user the rights that it needs.

    :param url: of the database; only its kind and its user are read.
    :param user: instead of the one in the URL.
    """
    dialect = dialect_for(make_url(url))
    versions = [
        f"INSERT INTO pijobs_meta (name, value) VALUES ('{name}', {value})"  # noqa: S608 - both are ours
        for name, value in (("schema", FIRST_VERSION), ("additions", ADDITIONS))
    ]
    grants = _grants(dialect, user or dialect.url.username or "pijobs")
    lines = [*_tables(dialect), *_indexes(dialect), *versions, *grants]
    tidy = ("\n".join(line.rstrip() for line in text.strip().splitlines()) for text in lines)
    return "\n\n".join(f"{text};" for text in tidy)


def _grants(dialect: Dialect, user: str) -> Iterator[str]:
    if not dialect.server:
        return
    names = [table.name for table in metadata.sorted_tables]
    rights = "GRANT SELECT, INSERT, UPDATE, DELETE ON"
    if isinstance(dialect, Mariadb):
        # One statement for each table; the host is % (any).
        yield from (f"{rights} {name} TO {_quoted(user, chr(39))}@'%'" for name in names)
        return
    yield f"{rights} {', '.join(names)} TO {_quoted(user, chr(34))}"
    yield f"GRANT USAGE ON SEQUENCE pijobs_instance_seq_seq TO {_quoted(user, chr(34))}"


def _quoted(name: str, mark: str) -> str:
    return mark + name.replace(mark, mark * 2) + mark


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
    """Insert a row, unless somebody else did."""
    try:
        link.change(statement, values)
    except Exception as error:
        if dialect.judge(error) is not Trouble.DUPLICATE:
            raise
