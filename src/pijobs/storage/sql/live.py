"""What a storage has in one process, from first use to close: connections, threads, and what it knows."""

from __future__ import annotations

import threading
from contextlib import suppress

from sqlalchemy import Engine

from pijobs.storage.contract import Retention
from pijobs.storage.sql import leasing
from pijobs.storage.sql.dialect import Dialect, Sqlite
from pijobs.storage.sql.lanes import Lane, LocalLane, ServerLane
from pijobs.storage.sql.link import Link, Row
from pijobs.storage.sql.poller import Eye, Poller, Sight
from pijobs.storage.sql.statements import Statements
from pijobs.storage.sql.tables import ensure_tables
from pijobs.storage.sql.transactions import DatabaseClock, Transactions, Tx

#: Seconds that one look of the poller may take.
LOOK_TIMEOUT = 5.0
#: Seconds between two looks.
LOCAL_INTERVAL, SERVER_INTERVAL = 0.02, 0.025


class Live:
    """One process's share. Nothing connects and no thread starts before it is used."""

    def __init__(self, engine: Engine, dialect: Dialect, queue: str, retention: Retention) -> None:
        self._statements = Statements(dialect)
        self.clock = DatabaseClock(own=not dialect.server)
        self.durable, self.quick = _lanes(engine, dialect)
        self.transactions = Transactions(
            lambda link: Tx(link, self._statements, dialect, queue, self.clock, retention),
            dialect,
            lambda link: ensure_tables(link, dialect, engine, self._statements, queue),
        )
        self.poller = Poller(lambda: _Eye(self, local=not dialect.server))
        # (session, token) of leases whose commit got no answer: they may be held without anybody knowing.
        self._doubts: set[tuple[str, str]] = set()

    def doubt(self, tx: Tx) -> None:
        if tx.leased_as:
            self._doubts.add(tx.leased_as)

    def doubtful_of(self, session: str) -> list[str]:
        return [token for holder, token in list(self._doubts) if holder == session]

    def settle(self, session: str, tokens: list[str]) -> None:
        """The doubts of these leases are no more."""
        self._doubts -= {(session, token) for token in tokens}

    def close(self) -> None:
        self.poller.close()
        self.durable.close()
        self.quick.close()


def _lanes(engine: Engine, dialect: Dialect) -> tuple[Lane, Lane]:
    if isinstance(dialect, Sqlite):
        writer = threading.Lock()
        return (
            LocalLane(engine, dialect, writer, durable=True),
            LocalLane(engine, dialect, writer, durable=False),
        )
    lane = ServerLane(engine, dialect)
    return lane, lane


def _feel_pulse(tx: Tx) -> list[Row]:
    return tx.timed_rows(tx.st.pulse, now=tx.now)


class _Eye(Eye):
    """Looks for what a step without a floor would find; on a local file only after a commit."""

    def __init__(self, live: Live, *, local: bool) -> None:
        self.interval = LOCAL_INTERVAL if local else SERVER_INTERVAL
        self._live = live
        self._link: Link | None = live.quick.connect() if local else None
        self._version: int | None = None

    def changed(self) -> bool:
        if self._link is None:
            live = self._live
            found = live.transactions.read(live.quick, _feel_pulse, timeout=LOOK_TIMEOUT)
            return bool(found and found[0][1])
        before, self._version = self._version, self._link.run("PRAGMA data_version")[0][0]
        return bool(before != self._version)

    def look(self) -> Sight:
        live = self._live
        outlook = live.transactions.read(live.quick, lambda tx: leasing.look_out(tx, "", None), timeout=LOOK_TIMEOUT)
        times = [time - outlook.now for time in (outlook.alarm, outlook.unblocked) if time is not None]
        return Sight(
            priority=outlook.heads[0].priority if outlook.heads else None,
            promotable=outlook.promotable,
            changes_in=max(min(times), 1) / 1000 if times else None,
        )

    def close(self) -> None:
        if self._link is not None:
            with suppress(Exception):
                self._link.close()
