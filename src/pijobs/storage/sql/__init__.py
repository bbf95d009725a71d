"""The queue in an SQL database: SQLite (the embedded default), PostgreSQL, MariaDB, MySQL."""

from pijobs.storage.sql.storage import SqlStorage

__all__ = ["SqlStorage"]
