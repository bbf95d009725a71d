"""The part for servers: it stores calls, and moves them to another storage."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pijobs.errors import Bypassed, KeyConflict, NoLiveWorker
from pijobs.jobs import WAITING, State
from pijobs.storage import contract
from pijobs.storage.memory.base import MemoryBase
from pijobs.storage.values import TAKEN_AHEAD, End, NewInstance, OnConflict, Stored, is_newer, to_bypass


class ForServers(MemoryBase, contract.ForServers):
    """The part for servers: it stores calls, and moves them to another storage."""

    def enqueue_many(
        self,
        batch: Sequence[tuple[NewInstance, OnConflict]],
        *,
        timeout: float,
        worker_within: int | None = None,
        bypassable: bool = False,
    ) -> list[Stored]:
        self._look_at_protocol()
        with self._lock:
            now = self.now()
            unknown = [(new, on_conflict) for new, on_conflict in batch if self._items.get(new.id) is None]
            seen = self._sessions.seen
            if unknown and worker_within is not None and (seen is None or now - seen > worker_within):
                raise NoLiveWorker
            if bypassable:
                self._refuse_bypassed(unknown, now)
            self._refuse_conflicts(unknown, now)
            return [self._enqueue(new, on_conflict, now) for new, on_conflict in batch]

    def _refuse_bypassed(self, batch: Sequence[tuple[NewInstance, OnConflict]], now: int) -> None:
        def waits(key: str) -> bool:
            item = self._items.waiting_with(key)
            return item is not None and not item.overdue(now)

        if found := to_bypass((new for new, _ in batch), self._bypasses, now, waits=waits):
            raise Bypassed(found)

    def _refuse_conflicts(self, batch: Sequence[tuple[NewInstance, OnConflict]], now: int) -> None:
        claimed: dict[str, str] = {}
        for new, on_conflict in batch:
            if new.key is not None:
                waiting, _ = self._items.holder_of(new.key, now)
                other = claimed.get(new.key) if waiting is None else waiting.new.id
                if on_conflict == "error" and other is not None:
                    raise KeyConflict(other)
                claimed[new.key] = new.id

    def _enqueue(self, new: NewInstance, on_conflict: OnConflict, now: int) -> Stored:
        if known := self._items.get(new.id):
            return Stored(new.id, known.state, fresh=False)
        waiting, _ = self._items.holder_of(new.key, now)
        if waiting and on_conflict == "keep":
            return Stored(waiting.new.id, waiting.state, fresh=False)
        self._know_group(new)
        if waiting and is_newer(waiting.new.created, new.created, now):
            item = self._items.add(new, now, claims=False)
            self._items.finish(item, State.CANCELLED, now, f"superseded by {waiting.new.id}")
            return Stored(new.id, item.state, fresh=True)
        if waiting:
            self._items.finish(waiting, State.CANCELLED, now, f"superseded by {new.id}")
        item = self._items.add(new, now)
        return Stored(new.id, item.state, fresh=True, replaced=waiting.new.id if waiting else None)

    def enqueue_periodic(self, new: NewInstance, *, due: int) -> bool:
        with self._lock:
            if due <= self._periodic.get(new.name, due - 1) <= self.now() + TAKEN_AHEAD:
                return False
            self._periodic[new.name] = due
            self.enqueue(new, timeout=0)
            return True

    def last_periodic(self, name: str) -> int | None:
        with self._lock:
            return self._periodic.get(name)

    def take_out(self, number: int, *, hold: int, timeout: float | None = None) -> list[NewInstance]:
        with self._lock:
            now = self.now()
            fresh = [item for item in self._items.of(State.QUEUED, State.SCHEDULED) if item.started is None]
            waiting = [item for item in fresh if item.state is State.SCHEDULED or item.due <= now]
            chosen = sorted(waiting, key=lambda item: item.place)[:number]
            taken = [msgspec.structs.replace(item.new, due=item.due) for item in chosen]
            for item in chosen:
                item.due = max(item.due, now + hold)
            return taken

    def forget(self, ids: Sequence[str], *, timeout: float | None = None) -> None:
        with self._lock:
            for item in filter(None, map(self._items.get, ids)):
                if item.state in WAITING:
                    self._items.free_key(item)
                    self._items.drop(item)

    def record_end(self, new: NewInstance, end: End, *, timeout: float | None = None) -> bool:
        with self._lock:
            now, item = self.now(), self._items.get(new.id)
            if item is not None and item.state not in WAITING:
                return False
            # Only a waiting instance holds the key.
            item = item or self._items.add(new, now, claims=False)
            item.attempts += end.counted
            if end.entry is not None:
                item.note(end.entry)
            self._items.finish(item, end.state, now, end.reason, end.error)
            return True
