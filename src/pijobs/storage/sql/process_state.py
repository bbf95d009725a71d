"""The state of a storage in one process, from first use to close: connections, threads, and what it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Engine

from pijobs.base import clock, threads
from pijobs.base.forks import gate
from pijobs.errors import StorageUnavailable
from pijobs.storage.sql import leasing
from pijobs.storage.sql.connection import Link
from pijobs.storage.sql.connection_sources import Lane, LocalLane, ServerLane
from pijobs.storage.sql.dialects.dialect import Dialect
from pijobs.storage.sql.dialects.sqlite import Sqlite
from pijobs.storage.sql.poller import Eye, Poller, Sight
from pijobs.storage.sql.room import PAGE, Room
from pijobs.storage.sql.statements import statements_of
from pijobs.storage.sql.tables import ensure_tables
from pijobs.storage.sql.transactions import DatabaseClock, Transactions, Tx
from pijobs.storage.values import Retention

#: Seconds that one look of the poller may take.
LOOK_TIMEOUT = 5.0
#: Seconds between two looks.
LOCAL_INTERVAL, SERVER_INTERVAL = 0.02, 0.025


class Live:
    """The state of one process. Nothing connects and no thread starts before its first use."""

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        queue: str,
        retention: Retention,
        learn_protocol: Callable[[int], None],
    ) -> None:
        self._statements = statements_of(dialect)
        self.engine, self.is_on_a_server = engine, dialect.server
        self.clock = DatabaseClock(own=not dialect.server)
        self.durable, self.quick = _lanes(engine, dialect)

        def make_tx(link: Link) -> Tx:
            return Tx(link, self._statements, dialect, queue, self.clock, retention)

        self.make_tx = make_tx

        def ensure(link: Link) -> None:
            learn_protocol(ensure_tables(link, dialect, self._statements, queue))

        self.ensure = ensure
        self.transactions = Transactions(make_tx, dialect, ensure)
        self.poller = Poller(self._open_eye)
        self._room = Room(dialect.path, self._tidy) if isinstance(dialect, Sqlite) else None

    def require_room(self, size: int, timeout: float = LOOK_TIMEOUT, *, number: int = 1) -> None:
        """:param size: bytes that an enqueue stores, and the number of its instances.
        :param timeout: seconds.
        :raises StorageUnavailable: when the disk is full.
        """
        if self._room is not None:
            self._room.require(size, timeout, number)

    def is_short_of_room(self) -> bool:
        return self._room is not None and self._room.is_short()

    def watch_room(self) -> None:
        """Keep some room for the workers if it gets short."""
        if self._room is not None:
            self._room.watch()

    def _tidy(self) -> tuple[int, bool]:
        def work(tx: Tx) -> tuple[int, bool]:
            busy = tx.link.run("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]
            return int(tx.link.run("PRAGMA freelist_count")[0][0]) * PAGE, not busy

        return self.transactions.read(self.quick, work, timeout=LOOK_TIMEOUT)

    def _open_eye(self) -> Eye:
        if isinstance(self.quick, LocalLane):
            return _FileEye(self, self.quick)
        assert isinstance(self.quick, ServerLane)
        return _ServerEye(self, self.quick)

    def close(self) -> None:
        self.poller.close()
        self.durable.close()
        self.quick.close()


def _lanes(engine: Engine, dialect: Dialect) -> tuple[Lane, Lane]:
    if isinstance(dialect, Sqlite):
        writer = threads.Lock()
        return (
            LocalLane(engine, dialect, writer, durable=True),
            LocalLane(engine, dialect, writer, durable=False),
        )
    lane = ServerLane(engine, dialect)
    return lane, lane


class _Eye(Eye):
    """Looks for what a step for any priority would find."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._link: Link | None = None
        # Creates the tables, if nobody has yet.
        live.transactions.read(live.quick, lambda tx: None, timeout=LOOK_TIMEOUT)

    def changed(self) -> bool:
        with self._told():
            return self._changed()

    def look(self) -> Sight:
        with self._told():
            outlook = self._look_out()
        times = [time - outlook.now for time in (outlook.alarm, outlook.unblocked) if time is not None]
        return Sight(
            priority=outlook.heads[0].priority if outlook.heads else None,
            promotable=outlook.promotable,
            changes_in=max(min(times), 1) / 1000 if times else None,
        )

    def _changed(self) -> bool:
        raise NotImplementedError

    def _look_out(self) -> leasing.Outlook:
        raise NotImplementedError

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._live.transactions.errors as error:
            raise StorageUnavailable from error

    def hang_up(self) -> None:
        if (link := self._link) is not None:
            link.hang_up()

    def close_idle(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def close(self) -> None:
        self.close_idle()


class _FileEye(_Eye):
    """For SQLite: asks whether the file has changed. A fork closes its connection; see :mod:`pijobs.base.forks`."""

    interval = LOCAL_INTERVAL

    def __init__(self, live: Live, lane: LocalLane) -> None:
        super().__init__(live)
        self._lane = lane
        self._version: int | None = None
        gate.keep(self)

    def _changed(self) -> bool:
        with self._lane.use(clock.monotonic() + LOOK_TIMEOUT):
            if self._link is None:
                self._link, self._version = self._lane.connect(), None
            before, self._version = self._version, self._link.run("PRAGMA data_version")[0][0]
            return bool(before != self._version)

    def _look_out(self) -> leasing.Outlook:
        live = self._live
        return live.transactions.read(live.quick, lambda tx: leasing.look_out(tx, "", None), timeout=LOOK_TIMEOUT)

    def close(self) -> None:
        with suppress(StorageUnavailable), self._lane.use(clock.monotonic() + LOOK_TIMEOUT):
            self.close_idle()


class _ServerEye(_Eye):
    """For a server: looks over its own connection. That costs a third less than a lent one, and if the server stops
    answering, only the poller waits for it.
    """

    interval = SERVER_INTERVAL

    def __init__(self, live: Live, lane: ServerLane) -> None:
        super().__init__(live)
        self._lane = lane

    def _changed(self) -> bool:
        return True

    def _look_out(self) -> leasing.Outlook:
        if self._link is None:
            self._link = self._lane.connect()
        with self._lane.guard(self._link, LOOK_TIMEOUT):
            return leasing.look_out(self._live.make_tx(self._link), "", None)
