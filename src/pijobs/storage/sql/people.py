"""The part for people: records, numbers, and switches."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from pijobs.errors import StateConflict
from pijobs.jobs import State
from pijobs.storage import contract
from pijobs.storage.periods import Period
from pijobs.storage.records import Audit, Depths, GroupRecord, Page, Record
from pijobs.storage.sessions import SessionRecord
from pijobs.storage.sql import housekeeping, inserts, limits, queries
from pijobs.storage.sql.base import TIMEOUT, SqlBase
from pijobs.storage.sql.rows import find
from pijobs.storage.sql.schema import ENDED, Code
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.texts import storable_name, storable_text
from pijobs.storage.values import GROUPS, HOUSEKEEPING_BATCH, Pause


class ForPeople(SqlBase, contract.ForPeople):
    """The part for people: records, numbers, and switches."""

    def get(self, instance_id: str) -> Record:
        return self._read(lambda tx: find(tx, instance_id, lock=False)).record()

    def body(self, instance_id: str) -> bytes | None:
        def work(tx: Tx) -> Any:
            return find(tx, instance_id, lock=False).has_body and tx.rows(tx.st.body, id=instance_id)

        found = self._read(work)
        return found[0][0] if found else None

    def page(
        self,
        state: State,
        *,
        name: str | None = None,
        group: str | None = None,
        subject: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        def work(tx: Tx) -> Page:
            return queries.page(tx, state, name=name, group=group, subject=subject, cursor=cursor, limit=limit)

        return self._read(work)

    def waiting(self, name: str, *, most: int, timeout: float | None = None) -> tuple[int, int | None]:
        live = self._live
        limit = TIMEOUT if timeout is None else timeout
        return live.transactions.read(live.quick, lambda tx: queries.waiting(tx, name, most), timeout=limit)

    def make_room(self, name: str, *, priority: int, reason: str, timeout: float | None = None) -> str | None:
        return self._run(lambda tx: inserts.make_room(tx, name, priority, reason), timeout)

    def depths(self) -> Depths:
        return self._read(queries.depths)

    def oldest_due(self, *, without: Collection[str]) -> int | None:
        return self._read(lambda tx: queries.oldest_due(tx, without))

    def sessions(self) -> list[SessionRecord]:
        return self._read(housekeeping.sessions)

    def cancel(self, instance_id: str, *, reason: str) -> None:
        self._run(lambda tx: inserts.cancel(tx, instance_id, storable_text(reason)))

    def retry(self, instance_id: str) -> None:
        self._run(lambda tx: inserts.retry(tx, instance_id))
        self._live.poller.kick()

    def reseal(self, instance_id: str, *, old: tuple[bytes, bytes], new: tuple[bytes, bytes]) -> bool:
        return self._run(lambda tx: inserts.reseal(tx, instance_id, old, new))

    def remove(self, instance_id: str) -> None:
        def work(tx: Tx) -> None:
            row = find(tx, instance_id, lock=True)
            if row.state not in ENDED:
                state = Code(row.state).state
                raise StateConflict(f"instance {instance_id} is {state}; only an ended one can be removed")
            tx.many(tx.st.delete, [{"b_seq": row.seq}])

        self._run(work)

    def pause(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        told = Pause(self.now(), by, reason)
        self._run(lambda tx: limits.pause(tx, group, told))

    def resume(self, group: str | None = None) -> None:
        self._run(lambda tx: limits.pause(tx, group, None))
        self._live.poller.kick()

    def make_due(self, group: str) -> int:
        number = done = self._run(lambda tx: limits.make_due(tx, group))
        while done == HOUSEKEEPING_BATCH:
            done = self._run(lambda tx: limits.make_due(tx, group))
            number += done
        self._live.poller.kick()
        return number

    def bypass(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        told = Pause(self.now(), by, reason)
        self._run(lambda tx: limits.bypass(tx, storable_name(group or ""), told))

    def end_bypass(self, group: str | None = None) -> None:
        self._run(lambda tx: limits.bypass(tx, storable_name(group or ""), None))

    def check(self, *, repair: bool = False) -> Iterator[Audit]:
        last = 0
        while True:
            last, audit = self._audit(last, repair=repair)
            yield audit
            if not last:
                return

    def groups(self, *, after: str = "", limit: int = GROUPS, healthy: str | None = None) -> list[GroupRecord]:
        return self._read(lambda tx: limits.groups(tx, after, limit, healthy))

    def totals(self, period: Period | None = None) -> dict[str, float]:
        return dict(self._read(lambda tx: limits.totals(tx, limits.owner(tx, period))))
