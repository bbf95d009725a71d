"""The contract in process memory.

Everything happens under one lock; instances are kept by state, so that each rule reads as a scan over the states it
speaks of.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from pijobs.base import threads
from pijobs.base.clock import Clock, SystemClock, to_ms
from pijobs.errors import Bypassed, KeyConflict, NoLiveWorker, StateConflict
from pijobs.jobs import ENDED, WAITING, State
from pijobs.storage import protocol
from pijobs.storage.contract import Storage
from pijobs.storage.memory.groups import Counts, Group
from pijobs.storage.memory.items import Item, Items
from pijobs.storage.memory.sessions import Sessions
from pijobs.storage.periods import Period
from pijobs.storage.records import Depths, GroupRecord, Loss, Page, Record
from pijobs.storage.sessions import Beat, SessionInfo, SessionRecord
from pijobs.storage.texts import storable_json, storable_name, storable_text
from pijobs.storage.values import (
    GIVEN_BACK,
    GROUPS,
    HOUSEKEEPING_BATCH,
    LEFT_OUT,
    MAX_TOTALS,
    PROGRESS,
    TAKEN_AHEAD,
    UNTOLD,
    End,
    Ended,
    Lease,
    LossKind,
    NewInstance,
    OnConflict,
    Pause,
    Retention,
    Step,
    Stored,
    is_newer,
    to_bypass,
)

PROMOTE_BATCH = 20
FINISHED = (State.DONE, State.EXPIRED, State.CANCELLED)


class MemoryStorage(Storage):
    """A queue that lives and dies with its process.

    :param name: of the queue; two objects never meet, whatever their names.
    :param clock: where the time comes from.
    """

    display_url = "memory://"

    def __init__(self, name: str = "memory", *, clock: Clock | None = None, retention: Retention | None = None) -> None:
        self.name = name
        self._clock = clock or SystemClock()
        self._retention = retention or Retention()
        self._lock = threads.Condition()
        self._items = Items(self._lock)
        self._groups: dict[str, Group] = {}
        self._sessions = Sessions(self._items.last_enqueue)
        self._periodic: dict[str, int] = {}
        self._counts = Counts()
        self._totals: dict[str, float] = {}
        self._periods: dict[Period, dict[str, float]] = {}
        self._pause: Pause | None = None
        self._bypasses: dict[str, Pause] = {}
        self._loss: Loss | None = None
        self._epoch = 1
        #: Times that everybody who waits was sent home.
        self._wakes = 0
        #: What is written, and who can read it.
        self._protocol = (protocol.FIRST, protocol.FIRST)

    # -- clock and connection ------------------------------------------------------------------------------------

    def now(self, *, timeout: float = 0.2) -> int:
        return to_ms(self._clock.time())

    def ping(self) -> None:
        """Memory always answers."""

    def close(self) -> None:
        """There is nothing to close."""

    # -- for servers ---------------------------------------------------------------------------------------------

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

    def _know_group(self, new: NewInstance) -> None:
        group = self._groups.setdefault(new.group, Group())
        if group.limit is None and not group.version:  # new, or paused before its first instance
            group.limit = new.limit

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

    # -- for what moves to another storage -----------------------------------------------------------------------

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
            # The key belongs to what waits.
            item = item or self._items.add(new, now, claims=False)
            item.attempts += end.counted
            if end.entry is not None:
                item.note(end.entry)
            self._items.finish(item, end.state, now, end.reason, end.error)
            return True

    # -- for workers ---------------------------------------------------------------------------------------------

    def set_protocol(self, number: int, *, oldest_reader: int) -> None:
        with self._lock:
            self._protocol = number, oldest_reader
            self.protocol = number

    def _look_at_protocol(self) -> None:
        """There are no connections."""
        self.protocol = protocol.judge(*self._protocol, self.display_url)

    def open_session(self, info: SessionInfo, *, lease: int) -> None:
        self._look_at_protocol()
        with self._lock:
            self._sessions.open(info, self.now(), lease)

    def retell(self, info: SessionInfo) -> None:
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
        # Who is left behind alone would seem to have run alone.
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

    def _outlived(self, now: int) -> Iterator[Item]:
        kept: Counter[str] = Counter()
        finished, most = self._items.of(*FINISHED), self._retention.finished_max
        if len(finished) > most:
            finished.sort(key=lambda item: -item.end_place)
        for item in finished:
            kept[item.new.name] += 1
            keep = self._retention.finished if item.new.keep is None else item.new.keep
            if kept[item.new.name] > most or (item.ended or 0) + keep <= now:
                yield item
        for item in self._items.of(State.DEAD):
            if (item.ended or 0) + self._retention.dead <= now:
                yield item

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
        """What may be leased, in order; the caller may start one before it asks for the next."""
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
        """Seconds for which a step finds nothing, if nobody changes anything meanwhile."""
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

    # -- for people ----------------------------------------------------------------------------------------------

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

    def hurry(self, group: str) -> int:
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

    # -- groups and limits ---------------------------------------------------------------------------------------

    def group(self, name: str) -> GroupRecord | None:
        with self._lock:
            return self._group_record(name) if name in self._groups else None

    def groups(self, *, after: str = "", limit: int = GROUPS) -> list[GroupRecord]:
        with self._lock:
            names = sorted(name for name in self._groups if name > after)
            return [self._group_record(name) for name in names[:limit]]

    def _group_record(self, name: str) -> GroupRecord:
        waiting = sum(item.new.group == name for item in self._items.of(*WAITING))
        return self._groups[name].record(name, running=self._items.running()[name], waiting=waiting)

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

    # -- totals --------------------------------------------------------------------------------------------------

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

    def totals(self, period: Period | None = None) -> dict[str, float]:
        with self._lock:
            return dict(self._totals if period is None else self._periods.get(period, {}))


def _parse_cursor(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit()):
        raise ValueError(f"expected a cursor of an earlier page, found {cursor!r}; start again without one")
    return int(cursor)
