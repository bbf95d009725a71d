"""MariaDB and MySQL."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table, literal_column
from sqlalchemy.dialects import mysql
from sqlalchemy.sql.dml import Insert

from pijobs.storage.sql.dialects.dialect import CONNECT_TIMEOUT, Dialect, Trouble, is_unspeakable


class Mariadb(Dialect):
    """MariaDB and MySQL."""

    name = "MariaDB/MySQL"
    begin = "START TRANSACTION"
    enqueues_at_once = False
    clock = literal_column("CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)")
    settings = (
        # Without gap locks, which would make enqueues wait for each other.
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION innodb_lock_wait_timeout = 5",
        # In a zone with summer time, one hour of the year would come twice.
        "SET SESSION time_zone = '+00:00'",
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    )
    schema_lock = "SELECT GET_LOCK('pijobs_schema', 30)"
    schema_unlock = "SELECT RELEASE_LOCK('pijobs_schema')"
    version_query = "SELECT version()"
    oldest = "MariaDB 10.6 or MySQL 8.0"

    def require_fit(self, connection: Any) -> None:
        told = str(connection.server_version)
        # MariaDB says 5.5.5- in front, for old replicas.
        found = re.search(r"(\d+)\.(\d+)", told.removeprefix("5.5.5-"))
        oldest = (10, 6) if "mariadb" in told.lower() else (8, 0)
        if found and (int(found[1]), int(found[2])) < oldest:
            raise self._too_old(told)
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            self.largest = int(cursor.fetchone()[0])

    def connect_args(self) -> dict[str, Any]:
        given = self.url.query
        options = {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": 20, "write_timeout": 20, "charset": "utf8mb4"}
        return {name: value for name, value in options.items() if name not in given}

    def _autocommit(self, connection: Any) -> None:
        connection.autocommit(True)

    def _is_pooled(self, connection: Any) -> bool:
        return False

    def socket_of(self, connection: Any) -> socket.socket | None:
        return socket.socket(fileno=os.dup(connection._sock.fileno()))

    def insert_new(self, table: Table) -> Insert:
        # Not INSERT IGNORE, which also cuts off what is too long. The caller takes DUPLICATE for "not inserted".
        return mysql.insert(table)

    def insert_or_add(self, table: Table, column: str) -> Insert:
        new = mysql.insert(table)
        return new.on_duplicate_key_update({column: table.c[column] + new.inserted[column]})

    def judge(self, error: BaseException) -> Trouble:
        if is_unspeakable(error):
            return Trouble.DATA
        code = error_number(error)
        if code in (1205, 1213, 1020):
            return Trouble.AGAIN
        if code == 1146:
            return Trouble.SCHEMA
        if code == 1062:
            return Trouble.DUPLICATE
        if code in (1153, 1264, 1366, 1406):
            return Trouble.DATA
        if code in (1044, 1142, 1143, 1227):
            return Trouble.RIGHT
        if code in (None, 0, *_LOST) or isinstance(error, OSError):
            return Trouble.LOST
        return Trouble.OTHER

    def tell(self, error: BaseException) -> str:
        code = error_number(error)
        why = ", the server is read-only" if code in _READ_ONLY else ""
        return f"{type(error).__name__} {code}{why}" if code else type(error).__name__

    def tell_right(self, error: BaseException) -> str:
        return str(error.args[1]) if len(error.args) > 1 else self.tell(error)


_READ_ONLY = (1290, 1792, 1836)

#: Errors after which a connection to MariaDB or MySQL can't be used any more: the server or the network is gone, the
#: server became read-only, or it left its cluster (1047).
_LOST = (*_READ_ONLY, 1047, 1053, 1927, 2003, 2006, 2013, 2014, 2055)


def error_number(error: BaseException) -> int | None:
    arguments: Sequence[Any] = error.args
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
