"""The part for servers: it stores calls, and moves them to another storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import URL

from pijobs.base import clock
from pijobs.errors import InstanceRefused
from pijobs.storage import contract
from pijobs.storage.sql import at_once, inserts, joining, transfer
from pijobs.storage.sql.base import SqlBase
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.values import End, NewInstance, OnConflict, Stored

#: How much longer encrypted bytes become in a statement.
ESCAPED = 1.04


class ForServers(SqlBase, contract.ForServers):
    """The part for servers: it stores calls, and moves them to another storage."""

    def enqueue_many(
        self,
        batch: Sequence[tuple[NewInstance, OnConflict]],
        *,
        timeout: float,
        worker_within: int | None = None,
        bypassable: bool = False,
    ) -> list[Stored]:
        live, end = self._live, clock.monotonic() + timeout
        live.require_room(sum(len(new.body) for new, _ in batch), timeout, number=len(batch))

        def run(store: Callable[[Tx, inserts.Batch, int | None, bool], list[Stored]]) -> list[Stored]:
            def work(tx: Tx) -> list[Stored]:
                for new, _ in batch:
                    self._require_size(len(new.envelope) + len(new.body))
                if self._durability != "server":
                    tx.link.run("SET LOCAL synchronous_commit TO on")  # of PostgreSQL, for this transaction
                return store(tx, batch, worker_within, bypassable)

            return live.transactions.run(live.durable, work, timeout=end - clock.monotonic())

        stored = self._enqueue_alone(batch[0][0], timeout) if len(batch) == 1 and worker_within is None else None
        try:
            # A single instance gains nothing by it.
            stored = stored or run(inserts.enqueue_together if len(batch) > 1 else inserts.enqueue_many)
        except inserts.NotAllNew:
            stored = run(inserts.enqueue_many)
        live.poller.kick()
        return stored

    def _enqueue_alone(self, new: NewInstance, timeout: float) -> list[Stored] | None:
        """With one statement; None: nothing was done, because something prevents it."""
        if not self._dialect.enqueues_at_once or self._durability != "server":
            return None
        live = self._live
        stored = live.transactions.alone(live.durable, lambda tx: at_once.enqueue(tx, new), timeout=timeout)
        return None if stored is None else [stored]

    def is_in(self, url: Any) -> bool:
        return isinstance(url, URL) and joining.place_of(url) == joining.place_of(self._dialect.url)

    def enqueue_within(self, connection: Any, batch: Sequence[tuple[NewInstance, OnConflict]]) -> list[Stored]:
        for new, _ in batch:
            self._require_size(len(new.envelope) + len(new.body))
        durable = "SET LOCAL synchronous_commit TO on" if self._durability != "server" else None
        return joining.enqueue_within(self._live, connection, batch, durable)

    def _require_size(self, size: int) -> None:
        """:raises InstanceRefused: if the server would hang up, which looks like an outage."""
        largest = self._dialect.largest
        # Some bytes are written as two; of random ones few.
        if largest is not None and size * ESCAPED > largest:
            raise InstanceRefused(
                f"{self._dialect.name} takes statements of {largest / 1e6:.1f} MB, found an instance of "
                f"{size / 1e6:.1f} MB; raise max_allowed_packet"
            )

    def enqueue_periodic(self, new: NewInstance, *, due: int) -> bool:
        self._live.require_room(len(new.body))
        stored = self._run(lambda tx: inserts.enqueue_periodic(tx, new, due))
        self._live.poller.kick()
        return stored

    def last_periodic(self, name: str) -> int | None:
        found = self._read(lambda tx: tx.rows(tx.st.last_periodic, name=name))
        return int(found[0][0]) if found else None

    def take_out(self, number: int, *, hold: int, timeout: float | None = None) -> list[NewInstance]:
        taken = self._run_quickly(lambda tx: transfer.take_out(tx, number, hold), timeout)
        self._live.poller.kick()
        return taken

    def forget(self, ids: Sequence[str], *, timeout: float | None = None) -> None:
        # Durable, because an instance that came back after a power cut would run a second time.
        self._run(lambda tx: transfer.forget(tx, ids), timeout)
        self._live.poller.kick()

    def record_end(self, new: NewInstance, end: End, *, timeout: float | None = None) -> bool:
        return self._run(lambda tx: inserts.record_end(tx, new, end), timeout)
