"""One complete life of test instances in a transaction that is rolled back: does the database accept all statements of
the queue from this user? Nobody sees it, and nothing of it stays."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol, TypeVar

from pijobs.errors import PijobsError
from pijobs.storage.contract import Storage
from pijobs.storage.sql.connection_sources import Lane
from pijobs.storage.sql.poller import Poller
from pijobs.storage.sql.process_state import Live
from pijobs.storage.sql.transactions import Transactions, Tx
from pijobs.storage.trial import live_once

T = TypeVar("T")


class TakenBack(PijobsError):
    """the trial is over, and its transaction is taken back"""


class Try(Protocol):
    """Creates a storage whose calls all run in one transaction."""

    def __call__(self, live: Live) -> Storage: ...


def rehearse(live: Live, tx: Tx, make_storage: Try) -> None:
    """:raises TakenBack: at the end, so that the transaction is rolled back.
    :raises StorageUnfit: if an answer of the database is wrong.
    """
    queue = f"trial {secrets.token_hex(8)}"
    tx.change(tx.st.insert_queue, name=queue, paused=0)
    live_once(make_storage(TrialLive(live, tx, queue)))
    raise TakenBack


class TrialLive(Live):
    """Does all work in an open transaction."""

    def __init__(self, live: Live, tx: Tx, queue: str) -> None:
        self.__dict__.update(live.__dict__)
        self.transactions = _Within(tx, queue)
        self.poller = _Still()

    def require_room(self, size: int, timeout: float = 0, *, number: int = 1) -> None:
        pass

    def is_short_of_room(self) -> bool:
        return False

    def watch_room(self) -> None:
        pass


class _Within(Transactions):
    def __init__(self, tx: Tx, queue: str) -> None:
        self._tx = tx
        self._queue = queue

    def run(self, lane: Lane, work: Callable[[Tx], T], *, timeout: float) -> T:
        tx = self._tx
        return work(Tx(tx.link, tx.st, tx.dialect, self._queue, tx.clock, tx.retention))

    read = alone = run

    def look_again(self) -> None:
        pass


class _Still(Poller):
    """Nobody must be woken."""

    def __init__(self) -> None:
        pass

    def kick(self) -> None:
        pass

    def wait(self, timeout: float, floor: int | None) -> None:
        pass
