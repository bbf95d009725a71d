"""The part for people: records, numbers, and switches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import msgspec

from pijobs.errors import StateConflict
from pijobs.jobs import ENDED, WAITING, State
from pijobs.storage import contract
from pijobs.storage.memory.base import MemoryBase
from pijobs.storage.memory.groups import Group
from pijobs.storage.periods import Period
from pijobs.storage.records import Depths, GroupRecord, Page, Record
from pijobs.storage.sessions import SessionRecord
from pijobs.storage.texts import storable_name, storable_text
from pijobs.storage.values import GROUPS, Pause


class ForPeople(MemoryBase, contract.ForPeople):
    """The part for people: records, numbers, and switches."""

    def get(self, instance_id: str) -> Record:
        with self._lock:
            return self._items.find(instance_id).record()

    def body(self, instance_id: str) -> bytes | None:
        with self._lock:
            return self._items.find(instance_id).body

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
        before = float("inf") if cursor is None else _parse_cursor(cursor)
        wanted = (("name", name), ("group", group))
        with self._lock:
            found = [
                item
                for item in self._items.of(state)
                if item.page_place < before
                and (subject is None or subject in (item.new.subject, item.new.person))
                and all(value is None or getattr(item.new, key) == value for key, value in wanted)
            ]
            found.sort(key=lambda item: -item.page_place)
            more = str(found[limit - 1].page_place) if len(found) > limit else None
            return Page([item.record() for item in found[:limit]], more)

    def waiting(self, name: str, *, most: int, timeout: float | None = None) -> tuple[int, int | None]:
        with self._lock:
            found = [item for item in self._items.of(*WAITING) if item.new.name == name]
            queued = sorted((item.place, item.due) for item in found if item.state is State.QUEUED)
            return min(most, len(found)), queued[0][1] if queued else None

    def make_room(self, name: str, *, priority: int, reason: str, timeout: float | None = None) -> str | None:
        with self._lock:
            found = [
                item for item in self._items.of(*WAITING) if item.new.name == name and item.new.priority < priority
            ]
            if not found:
                return None
            item = min(found, key=lambda item: (item.new.priority, -item.place))
            self._items.finish(item, State.CANCELLED, self.now(), reason)
            return item.new.id

    def depths(self) -> Depths:
        with self._lock:
            counts = Counter((item.new.name, item.state) for item in self._items.of(*State))
            oldest: dict[str, int] = {}
            for item in self._items.of(State.QUEUED):
                oldest[item.new.name] = min(item.due, oldest.get(item.new.name, item.due))
            now = self.now()
            backlog = sum(item.overdue(now) for item in self._items.of(*WAITING)) + sum(1 for _ in self._outlived(now))
            seen, totals = self._sessions.seen, len(self._totals)
            return Depths(dict(counts), oldest, self._pause, seen, backlog, totals, self._loss, dict(self._bypasses))

    def oldest_due(self, *, without: Collection[str]) -> int | None:
        with self._lock:
            waiting = self._items.of(State.QUEUED)
            return min((item.due for item in waiting if item.new.group not in without), default=None)

    def sessions(self) -> list[SessionRecord]:
        with self._lock:
            now = self.now()
            running = self._items.of(State.RUNNING)
            return [
                SessionRecord(
                    one.info, one.seen, one.until, tuple(i.new.id for i in running if i.session == one.info.id)
                )
                for one in self._sessions.live(now)
            ]

    def cancel(self, instance_id: str, *, reason: str) -> None:
        with self._lock:
            item = self._items.find(instance_id)
            if item.state not in WAITING:
                raise StateConflict(f"instance {instance_id} is {item.state}; only a waiting one can be cancelled")
            self._items.finish(item, State.CANCELLED, self.now(), storable_text(reason))

    def retry(self, instance_id: str) -> None:
        with self._lock:
            item, now = self._items.find(instance_id), self.now()
            if item.state is not State.DEAD:
                raise StateConflict(f"instance {instance_id} is {item.state}; only a dead one can be retried")
            if item.body is None or item.overdue(now):
                raise StateConflict(f"instance {instance_id} is past its deadline; it can't be retried any more")
            item.attempts = item.crashes = 0
            item.reason = item.error = item.held_since = item.ended = None
            self._know_group(item.new)
            self._items.back(item, State.QUEUED, now, now, by_hand=True)

    def reseal(self, instance_id: str, *, old: tuple[bytes, bytes], new: tuple[bytes, bytes]) -> bool:
        with self._lock:
            item = self._items.get(instance_id)
            if item is None or item.state is State.RUNNING or (item.new.envelope, item.body) != old:
                return False
            item.new, item.body = msgspec.structs.replace(item.new, envelope=new[0]), new[1]
            return True

    def remove(self, instance_id: str) -> None:
        with self._lock:
            item = self._items.find(instance_id)
            if item.state not in ENDED:
                raise StateConflict(f"instance {instance_id} is {item.state}; only an ended one can be removed")
            self._items.drop(item)

    def pause(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        self._set_pause(group, Pause(self.now(), by, reason))

    def resume(self, group: str | None = None) -> None:
        self._set_pause(group, None)

    def _set_pause(self, group: str | None, pause: Pause | None) -> None:
        with self._lock:
            if group is None:
                self._pause = pause
            elif pause or group in self._groups:
                self._groups.setdefault(group, Group()).pause = pause
            self._lock.notify_all()

    def make_due(self, group: str) -> int:
        with self._lock:
            now, found = self.now(), self._items.of(State.SCHEDULED)
            late = [item for item in found if item.new.group == group and item.started is not None and item.due > now]
            for item in late:
                item.due = now
            self._lock.notify_all()
            return len(late)

    def bypass(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        with self._lock:
            self._bypasses[storable_name(group or "")] = Pause(self.now(), by, reason)

    def end_bypass(self, group: str | None = None) -> None:
        with self._lock:
            self._bypasses.pop(storable_name(group or ""), None)

    def groups(self, *, after: str = "", limit: int = GROUPS, healthy: str | None = None) -> list[GroupRecord]:
        with self._lock:
            records = [self._group_record(name) for name in sorted(self._groups) if name > after]
            if healthy is not None:
                records = [one for one in records if one.paused or (one.policy and not one.policy.endswith(healthy))]
            return records[:limit]

    def totals(self, period: Period | None = None) -> dict[str, float]:
        with self._lock:
            return dict(self._totals if period is None else self._periods.get(period, {}))


def _parse_cursor(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit()):
        raise ValueError(f"expected a cursor of an earlier page, found {cursor!r}; start again without one")
    return int(cursor)
