"""The sources of connections, and how long a caller waits for one.

Each kind lends a :class:`~pijobs.storage.sql.connection.Link` for a block. If a :class:`StorageUnavailable` leaves the
block, the connection can't be used any more.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol

from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pijobs.base import clock, files, threads
from pijobs.base.forks import gate
from pijobs.errors import PijobsError, StorageUnavailable
from pijobs.storage.pool import ConnectionPool
from pijobs.storage.sql.connection import Link
from pijobs.storage.sql.dialects.dialect import Dialect, Trouble
from pijobs.storage.sql.dialects.sqlite import Sqlite
from pijobs.storage.sql.room import give_way
from pijobs.storage.sql.watchdog import Watchdog

#: Connections of one process to a server, at most.
POOL_SIZE = 16
#: Seconds until a new connection to a server must be ready. Drivers have a time limit only for connecting, not for the
#: first statements of SQLAlchemy and ours.
READY_WITHIN = 10.0
#: Seconds to wait, when closing, for a connection that is being made.
CLOSE_PATIENCE = 1.0


class Busy(StorageUnavailable):
    """another process holds the lock of the database"""


class Lane(Protocol):
    def take(self, end: float, *, writing: bool) -> AbstractContextManager[Link]:
        """:param end: monotonic seconds at which everything in the block must be over."""

    def connect(self) -> Link:
        """A connection that nobody else uses."""

    def close(self) -> None: ...


class ServerLane:
    """Connections to a server: a separate thread makes them, and another one hangs up when the caller's time is
    over."""

    def __init__(self, engine: Engine, dialect: Dialect) -> None:
        self._engine = engine
        self._dialect = dialect
        self._pool = ConnectionPool(self.connect, Link.close, size=POOL_SIZE, usable=Link.is_open)
        self._watchdog = Watchdog()
        self._connecting = threads.Lock()
        #: The connection that is being made.
        self._young: Any = None
        event.listen(engine, "connect", self._see_young, insert=True)

    def connect(self) -> Link:
        threads.let_greenlets_run()
        end = clock.monotonic() + READY_WITHIN
        with self._connecting, _told(self._dialect), self._watchdog.guard(end, self._hang_up_young):
            try:
                return Link(self._engine, self._dialect, durable=True)
            finally:
                self._young = None

    def _see_young(self, connection: Any, _: object) -> None:
        self._young = connection

    def _hang_up_young(self) -> None:
        with suppress(Exception):  # another thread may be closing it
            if handle := self._dialect.socket_of(self._young):
                with handle:
                    handle.shutdown(socket.SHUT_RDWR)

    def guard(self, link: Link, seconds: float) -> AbstractContextManager[None]:
        """Hang up a connection of :meth:`connect` if the block takes longer."""
        return self._watchdog.guard(clock.monotonic() + seconds, link.hang_up)

    @contextmanager
    def take(self, end: float, *, writing: bool) -> Iterator[Link]:
        with self._pool.take(max(0.0, end - clock.monotonic())) as link, self._watchdog.guard(end, link.hang_up):
            yield link

    def close(self) -> None:
        self._pool.close()
        self._watchdog.close()
        # The thread that is making a connection closes it.
        if self._connecting.acquire(timeout=CLOSE_PATIENCE):
            self._connecting.release()


class LocalLane:
    """Connections to a file: opened where they are needed. Writers of this process wait for one lock, because those of
    other processes can only be polled for. None is open at a fork: see :mod:`pijobs.base.forks`."""

    def __init__(self, engine: Engine, dialect: Sqlite, writer: threads.Lock, *, durable: bool) -> None:
        self._engine = engine
        self._dialect = dialect
        self._writer = writer
        self._durable = durable
        self._idle: list[Link] = []
        #: Something failed since the last check; the disk may have been full.
        self._failed = False
        gate.keep(self)

    def use(self, end: float) -> AbstractContextManager[None]:
        """Connections are opened, used and closed in this block only, so that no fork comes in between.

        :param end: monotonic seconds until which to wait for a fork.
        """
        return gate.use(self._dialect.path, max(0.0, end - clock.monotonic()))

    def connect(self) -> Link:
        self._create_file()
        with _told(self._dialect):
            link = Link(self._engine, self._dialect, durable=self._durable)
        link.file = self._file()
        return link

    def _create_file(self) -> None:
        path = self._dialect.path
        try:
            # Bodies are encrypted, but names of jobs and destinations are private, too.
            # Never open an existing file: closing it would drop the locks of this process's connections (POSIX, see
            # fcntl). Then another process would count itself as the last one and remove the log that we still write to.
            files.create(path)
        except FileExistsError as error:
            if reason := files.locked_out(path):
                raise StorageUnavailable(f"can't open the SQLite file: {reason}") from error
        except FileNotFoundError as error:
            folder = os.path.dirname(path)
            raise StorageUnavailable(
                f"the directory {folder} of the SQLite file {os.path.basename(path)} does not exist; create it, "
                "owned by the user that server and worker run as"
            ) from error
        except OSError as error:
            raise StorageUnavailable(f"can't open the SQLite file {path} for writing: {error.strerror}") from error

    def _file(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._dialect.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def take(self, end: float, *, writing: bool) -> Iterator[Link]:
        if writing and not self._writer.acquire(timeout=max(0.0, end - clock.monotonic())):
            raise StorageUnavailable("other threads of this process kept the SQLite file locked for too long")
        try:
            with self.use(end), self._lent() as link:
                yield link
        finally:
            if writing:
                self._writer.release()

    @contextmanager
    def _lent(self) -> Iterator[Link]:
        link = self._pick()
        try:
            yield link
        except StorageUnavailable:
            self._failed = True
            link.close()
            raise
        except PijobsError:
            self._idle.append(link)
            raise
        except BaseException:
            link.close()
            raise
        self._idle.append(link)

    def _pick(self) -> Link:
        link = self._idle_link() or self.connect()
        if self._failed and not self._durable:
            # The log takes all the room that there is, and then it can't be copied back. So copy it before writing.
            give_way(self._dialect.path)
            with suppress(dialect_errors(self._dialect)):
                link.run("PRAGMA wal_checkpoint(TRUNCATE)")
            self._failed = False
        return link

    def _idle_link(self) -> Link | None:
        file = self._file()
        while self._idle:
            with suppress(IndexError):
                link = self._idle.pop()
                # What is stored in a removed or replaced file would be lost.
                if link.file == file and file is not None:
                    return link
                link.close()
        return None

    def close_idle(self) -> None:
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def close(self) -> None:
        # A child that lost the file has nothing to close.
        with suppress(StorageUnavailable), self.use(clock.monotonic() + CLOSE_PATIENCE):
            self.close_idle()


@contextmanager
def _told(dialect: Dialect) -> Iterator[None]:
    """Errors of connecting, with the server's name and without the password."""
    try:
        yield
    except SQLAlchemyError as error:
        # Without SQLAlchemy's text around it, because that quotes the statement.
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        _refuse(dialect, cause)
    except (OSError, dialect_errors(dialect)) as error:
        _refuse(dialect, error)


def _refuse(dialect: Dialect, error: BaseException) -> None:
    kind = Busy if dialect.judge(error) is Trouble.AGAIN else StorageUnavailable
    text = " ".join(str(error).split())[:200]
    if password := dialect.url.password:
        text = text.replace(str(password), "***")
    place = dialect.path if isinstance(dialect, Sqlite) else dialect.url.host or "the local socket"
    raise kind(f"can't connect to {dialect.name} at {place}: {text}") from error


def dialect_errors(dialect: Dialect) -> type[Exception]:
    """The driver's base class of errors."""
    module = dialect.url.get_dialect().import_dbapi()
    error: type[Exception] = module.Error
    return error
