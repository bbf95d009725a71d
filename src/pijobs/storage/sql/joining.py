"""Enqueues in the application's transaction: it is committed or rolled back with it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from pijobs.errors import QueueUnavailable, StorageUnavailable, StorageUnfit, StorageVersion
from pijobs.storage.sql import inserts
from pijobs.storage.sql.connection import Link, Row, Statement
from pijobs.storage.sql.process_state import Live
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.values import Stored

log = logging.getLogger(__name__)


def place_of(url: URL) -> tuple[object, ...]:
    """The database that a URL names, whatever the user and the driver."""
    backend = url.get_backend_name().replace("mariadb", "mysql")
    if backend == "sqlite":
        return backend, os.path.realpath(url.database) if url.database not in (None, "", ":memory:") else object()
    host = url.host or url.query.get("host") or url.query.get("unix_socket")
    host = "" if host in (None, "localhost", "127.0.0.1", "::1") else host
    return backend, host, url.port or {"postgresql": 5432, "mysql": 3306}.get(backend), url.database


class Joined(Link):
    """The application's connection, in a transaction."""

    def __init__(self, connection: Connection, live: Live) -> None:
        self._theirs = connection
        self._engine = live.engine

    def rows(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        return [tuple(row) for row in self._run(statement, parameters).fetchall()]

    def change(self, statement: Statement, parameters: Mapping[str, Any]) -> int:
        return int(self._run(statement, parameters).rowcount)

    def many(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> int:
        return sum(self.change(statement, row) for row in rows)

    def run(self, sql: str) -> list[Row]:
        self._execute(sql, None)
        return []

    def begin(self) -> None:
        """It has begun."""

    def commit(self) -> None:
        """Whose it is does that."""

    def _run(self, statement: Statement, parameters: Mapping[str, Any]) -> Any:
        text = statement.text(self._engine)
        arguments = statement.arguments(parameters)
        return self._execute(text, dict(arguments) if isinstance(arguments, Mapping) else tuple(arguments))

    def _execute(self, text: str, arguments: Any) -> Any:
        try:
            return self._theirs.exec_driver_sql(text, arguments)
        except DBAPIError as error:
            if error.orig is None:
                raise
            raise error.orig from error


def enqueue_within(live: Live, connection: Connection, batch: inserts.Batch, durable: str | None) -> list[Stored]:
    """See :meth:`pijobs.storage.sql.SqlStorage.enqueue_within`.

    :param durable: a statement to run first in the transaction.
    """
    tx: Tx = live.make_tx(Joined(connection, live))
    foreign: tuple[type[Exception], ...] = (StorageUnavailable, *live.transactions.errors)
    try:
        if live.is_on_a_server:
            _prepare(live, batch)
        elif not live.transactions.ensured:
            # The transaction may hold the lock of the file, so only it can create missing tables.
            live.ensure(tx.link)
        if durable is not None:
            tx.link.run(durable)
        return inserts.enqueue_many(tx, batch)
    except foreign as error:
        why = str(error) if isinstance(error, StorageUnavailable) else tx.dialect.tell(error)
        raise QueueUnavailable(
            f"the tables of the queue can't be written in this transaction ({why}); roll it back"
        ) from error


#: Seconds to wait for rows of groups, and for the first check of the tables.
GROUP_TIMEOUT = 1.0


def _prepare(live: Live, batch: inserts.Batch) -> None:
    """Create missing tables, and commit the row of a new group: otherwise others that need it would wait for the end of
    the transaction."""
    try:
        live.transactions.run(live.quick, lambda tx: inserts.hold_groups(tx, batch), timeout=GROUP_TIMEOUT)
    except (StorageVersion, StorageUnfit):
        raise
    except StorageUnavailable as error:  # the transaction will report it
        log.debug("the groups of %d instances could not be made beforehand: %s", len(batch), error)
