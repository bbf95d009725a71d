"""One whole life of instances in a transaction that is taken back: does the database take all statements of the queue
from this user? Nobody sees it, and nothing of it stays."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol, TypeVar

from pijobs.errors import PijobsError
from pijobs.storage.contract import Storage
from pijobs.storage.sql.transactions import DatabaseClock, Tx
from pijobs.storage.trial import live_once

T = TypeVar("T")


class TakenBack(PijobsError):
    """the trial is over, and its transaction is taken back"""


class Try(Protocol):
    """Makes a storage whose calls all go into one transaction."""

    def __call__(self, live: TrialLive) -> Storage: ...


def rehearse(tx: Tx, make_storage: Try) -> None:
    """:raises TakenBack: at the end, so that the transaction is undone.
    :raises StorageUnfit: when the database answers otherwise than it must.
    """
    queue = f"trial {secrets.token_hex(8)}"
    tx.change(tx.st.insert_queue, name=queue, paused=0)
    live_once(make_storage(TrialLive(tx, queue)))
    raise TakenBack


class TrialLive:
    """In the place of :class:`~pijobs.storage.sql.live.Live`: all work is done in a transaction that is open."""

    durable = quick = None

    def __init__(self, tx: Tx, queue: str) -> None:
        self._tx = tx
        self._queue = queue
        self.transactions = self
        self.poller = _NoPoller()

    def require_room(self, size: int) -> None:
        pass

    def watch_room(self) -> None:
        pass

    @property
    def clock(self) -> DatabaseClock:
        return self._tx.clock

    def run(self, lane: None, work: Callable[[Tx], T], *, timeout: float) -> T:
        tx = self._tx
        return work(Tx(tx.link, tx.st, tx.dialect, self._queue, tx.clock, tx.retention))

    read = run


class _NoPoller:
    def kick(self) -> None:
        pass

    def wait(self, timeout: float, floor: int | None) -> None:
        pass
