"""Whether an SQLite file has changed, for who keeps what was read from it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path

from pijobs.base import threads
from pijobs.base.forks import gate
from pijobs.errors import StorageUnavailable

#: Seconds to wait for a fork that is going on.
_PATIENCE = 5.0


class FileWatch:
    """Asks over a kept connection that nobody writes by: ``PRAGMA data_version`` then tells of each commit, whoever
    made it, for some microseconds (https://sqlite.org/pragma.html)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threads.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        #: Connections so far: each counts from a number of its own.
        self._opened = 0
        gate.keep(self)

    def version(self) -> Hashable | None:
        """Another value after each change of the file; None: it can't be told."""
        try:
            found = os.stat(self._path)
            with gate.use(self._path, _PATIENCE), self._lock:
                if self._connection is None or self._file != (found.st_dev, found.st_ino):
                    self._open()
                    self._file = found.st_dev, found.st_ino
                return self._opened, *self._connection.execute("PRAGMA data_version").fetchone()  # type: ignore[union-attr]
        except (OSError, sqlite3.Error, StorageUnavailable):
            self.close()
            return None

    def _open(self) -> None:
        self.close_idle()
        # Never makes a file: it may just have been taken away.
        uri = f"{Path(self._path).absolute().as_uri()}?mode=rw"
        self._connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        self._opened += 1

    def close_idle(self) -> None:
        """For a fork, before which nobody uses it: see :mod:`pijobs.base.forks`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connection; the next question opens another one."""
        with suppress(StorageUnavailable, sqlite3.Error), gate.use(self._path, _PATIENCE), self._lock:
            self.close_idle()
