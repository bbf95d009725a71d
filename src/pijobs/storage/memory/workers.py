"""The part for workers: sessions, leases and their ends, and the limits of groups."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pijobs.jobs import WAITING, State
from pijobs.storage import contract
from pijobs.storage.memory.base import MemoryBase
from pijobs.storage.memory.groups import Group
from pijobs.storage.memory.items import Item
from pijobs.storage.periods import Period
from pijobs.storage.records import GroupRecord, Loss
from pijobs.storage.sessions import Beat, SessionInfo
from pijobs.storage.texts import storable_json, storable_name
from pijobs.storage.values import (
    GIVEN_BACK,
    HOUSEKEEPING_BATCH,
    LEFT_OUT,
    MAX_TOTALS,
    PROGRESS,
    UNTOLD,
    End,
    Ended,
    Lease,
    LossKind,
    Step,
)

PROMOTE_BATCH = 20


class ForWorkers(MemoryBase, contract.ForWorkers):
    """The part for workers: sessions, leases and their ends, and the limits of groups."""

    def open_session(self, info: SessionInfo, *, lease: int) -> None:
        self._look_at_protocol()
        with self._lock:
            self._sessions.open(info, self.now(), lease)

    def update_session(self, info: SessionInfo) -> None:
        with self._lock:
            if session := self._sessions.get(info.id):
                session.info = info

    def beat(
        self,
        session: str,
        *,
        lease: int,
        abandoned: Sequence[tuple[str, str]] = (),
        unknown: Sequence[tuple[str, str]] = (),
    ) -> Beat:
        with self._lock:
            now = self.now()
            before = self._sessions.renew(session, now, lease)
            ended = [one for item in self._items.held(abandoned, session) for one in self._items.crash(item, now)]
            for item in self._items.held(unknown, session):
                item.reason = UNTOLD
                ended += self._items.back(item, State.QUEUED, now, now)
            ended += self._recover(now)
            ended += [self._items.expire(item, now) for item in self._items.of(*WAITING) if item.overdue(now)]
            self._trim(now)
            held = [
                (item.new.id, item.token or "") for item in self._items.of(State.RUNNING) if item.session == session
            ]
            return Beat(session in self._sessions, ended, held, now, before, epoch=self._epoch)

    def _recover(self, now: int) -> list[Ended]:
        self._sessions.bury(now)
        lost = [item for item in self._items.of(State.RUNNING) if item.session not in self._sessions]
        if not lost:
            return []
        together = Counter(item.session for item in lost)
        # An instance that is left over would seem to have run alone.
        left = Counter(item.session for item in lost[HOUSEKEEPING_BATCH:])
        lost[HOUSEKEEPING_BATCH:] = [item for item in lost[HOUSEKEEPING_BATCH:] if left[item.session] == 1]
        return [one for item in lost for one in self._items.crash(item, now, alone=together[item.session] == 1)]

    def _trim(self, now: int) -> None:
        for item in self._items.of(State.DEAD):
            item.body = None if item.overdue(now) else item.body
        for item in list(self._outlived(now)):
            self._items.drop(item)
        used = {item.new.group for item in self._items.of(*WAITING, State.RUNNING)}
        for name, group in list(self._groups.items()):
            if name not in used and group.is_forgettable(now):
                del self._groups[name]
        self._counts.trim(now)

    def step(self, session: str, ends: Sequence[End], *, want: int, floor: int | None = None) -> Step:
        with self._lock:
            now = self.now()
            carried = [(end.id, self._items.carry_out(end, now)) for end in ends]
            lost = [instance_id for instance_id, superseded in carried if superseded is None]
            leases: list[Lease] = []
            ended = [one for _, superseded in carried for one in superseded or ()]
            holder = self._sessions.get(session)
            if want > 0:
                self._promote(now)
            if want > 0 and holder and holder.until > now:
                for item in self._ready(floor, now):
                    if item.overdue(now):
                        ended.append(self._items.expire(item, now))
                    elif len(leases) < want:
                        leases.append(self._items.start(item, session, now))
                    else:
                        break
            return Step(leases, lost, self._next_due(now), ended)

    def _promote(self, now: int) -> None:
        due = [item for item in self._items.of(State.SCHEDULED) if item.due <= now]
        for item in sorted(due, key=lambda item: (-item.new.priority, item.due))[:PROMOTE_BATCH]:
            self._items.move(item, State.QUEUED)

    def _ready(self, floor: int | None, now: int) -> Iterator[Item]:
        """What may be leased, in order. The caller may lease one before it asks for the next."""
        queued = self._items.of(State.QUEUED)
        if self._pause is not None or not queued:
            return
        running = self._items.running()
        for item in sorted(queued, key=lambda item: item.rank):
            if floor is not None and item.new.priority < floor:
                return
            if item.due <= now and self._groups[item.new.group].has_room(running[item.new.group], now):
                yield item
                running[item.new.group] += item.state is State.RUNNING

    def _next_due(self, now: int) -> int | None:
        held = [item.due for item in self._items.of(State.QUEUED) if item.due > now]
        return min((*held, *(item.due for item in self._items.of(State.SCHEDULED))), default=None)

    def note_progress(self, instance_id: str, token: str, line: str) -> bool:
        with self._lock:
            item = self._items.get(instance_id)
            if item is None or item.token is None or item.token != token:
                return False
            if item.history and item.history[-1].startswith(PROGRESS):
                item.history.pop()
            item.note(storable_json(line))
            return True

    def wait(self, timeout: float, *, floor: int | None = None) -> None:
        end = self._clock.monotonic() + timeout
        with self._lock:
            wakes = self._wakes
            while self._wakes == wakes and (left := end - self._clock.monotonic()) > 0:
                pause = self._nothing_for(floor)
                if not pause or not self._lock.wait(min(left, pause)):
                    return

    def _nothing_for(self, floor: int | None) -> float:
        """Seconds for which a step finds nothing, unless somebody changes something."""
        now = self.now()
        if next(self._ready(floor, now), None) or any(item.due <= now for item in self._items.of(State.SCHEDULED)):
            return 0.0
        blocked = [group.blocked_until or 0 for group in self._groups.values()]
        moments = (moment for moment in (*blocked, self._next_due(now) or 0) if moment > now)
        return (min(moments, default=math.inf) - now) / 1000

    def wake(self) -> None:
        with self._lock:
            self._wakes += 1
            self._lock.notify_all()

    def close_session(self, session: str, *, crashed: bool = False) -> list[Ended]:
        with self._lock:
            now = self.now()
            held = [item for item in self._items.of(State.RUNNING) if item.session == session]
            self._sessions.close(session)
            if crashed:
                return [one for item in held for one in self._items.crash(item, now, alone=len(held) == 1)]
            for item in held:
                item.reason = GIVEN_BACK
            return [one for item in held for one in self._items.back(item, State.QUEUED, now, now)]

    def note_loss(self, kind: LossKind) -> None:
        with self._lock:
            self._loss = Loss(kind, self.now())

    def group(self, name: str) -> GroupRecord | None:
        with self._lock:
            return self._group_record(name) if name in self._groups else None

    def set_group(
        self, name: str, *, version: int, limit: int | None, blocked_until: int | None, policy: str, keep: int = 0
    ) -> bool:
        with self._lock:
            group = self._groups.get(name, Group())
            if group.version != version:
                return False
            group.limit, group.blocked_until, group.policy = limit, blocked_until, policy
            group.keep_until = self.now() + keep
            group.version += 1
            self._groups[name] = group
            self._lock.notify_all()
            return True

    def count(self, key: str, *, limit: int, per: int) -> int | None:
        with self._lock:
            return self._counts.count(storable_name(key), self.now(), limit=limit, per=per)

    def add_totals(
        self,
        added: Mapping[str, float],
        *,
        period: Period | None = None,
        most: int = MAX_TOTALS,
        timeout: float | None = None,
    ) -> None:
        with self._lock:
            totals = self._totals if period is None else self._periods.setdefault(period, {})
            for name, value in added.items():
                taken = name if name in totals or len(totals) < most else LEFT_OUT
                totals[taken] = totals.get(taken, 0.0) + (value if taken == name else 1)
            if period is not None:
                gone = [one for one in self._periods if one.step == period.step and one.number < period.oldest.number]
                for one in gone:
                    del self._periods[one]
