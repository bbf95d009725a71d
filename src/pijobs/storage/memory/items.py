"""Instances in memory, and the transitions between their states."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count as counter
from itertools import islice
from secrets import token_hex

import msgspec

from pijobs.base import threads
from pijobs.errors import InstanceNotFound
from pijobs.jobs import ENDED, WAITING, State
from pijobs.storage.records import Record
from pijobs.storage.values import HOUSEKEEPING_BATCH, MAX_CRASHES, MAX_HISTORY, End, Ended, Lease, NewInstance, is_newer


@dataclass(slots=True)
class Item:
    """An instance; times in ms."""

    new: NewInstance
    state: State
    due: int
    #: Order of enqueue, and of the end.
    place: int
    enqueued: int
    end_place: int = 0
    key: str | None = None
    body: bytes | None = None
    attempts: int = 0
    crashes: int = 0
    held_since: int | None = None
    started: int | None = None
    ended: int | None = None
    reason: str | None = None
    error: str | None = None
    session: str | None = None
    token: str | None = None
    history: list[str] = field(default_factory=list)

    @property
    def rank(self) -> tuple[int, int]:
        """The place in the queue; recovered and retried instances keep it."""
        return -self.new.priority, self.place

    @property
    def page_place(self) -> int:
        """The order in which people see the instances of a state; the newest has the largest."""
        return self.end_place if self.state in ENDED else self.place

    def overdue(self, now: int) -> bool:
        """Whether the deadline has passed."""
        return self.new.deadline is not None and self.new.deadline <= now

    def is_newer_than(self, other: Item, now: int) -> bool:
        """Whether it is the newer call."""
        mine, others = self.new.created, other.new.created
        return is_newer(mine, others, now) or (not is_newer(others, mine, now) and self.place > other.place)

    def note(self, entry: str) -> None:
        """Add a line to the history."""
        self.history = [*self.history, entry][-MAX_HISTORY:]

    def ended_as(self, state: State, reason: str) -> Ended:
        """For observers."""
        return Ended(self.new.id, self.new.name, self.new.group, state, self.attempts, self.crashes, reason)

    def record(self) -> Record:
        """For people."""
        new = self.new
        return Record(
            new.id, new.name, self.state, new.group, new.priority, new.created, new.deadline, self.due, self.attempts,
            self.crashes, self.started, self.ended, self.reason, self.error, self.session, tuple(self.history),
            new.envelope, self.body is not None, new.label,
        )  # fmt: skip


class Items:
    """All instances of a queue, by id and by state.

    :param changed: held by each caller; notified when a worker may be able to do something new.
    """

    def __init__(self, changed: threads.Condition) -> None:
        self._changed = changed
        self._places = counter(1)
        self._by_id: dict[str, Item] = {}
        self._by_state: dict[State, dict[str, Item]] = {state: {} for state in State}
        self._by_key: dict[str, Item] = {}
        #: The last instance that was stored with a key, in any state.
        self._newest: dict[str, Item] = {}

    def of(self, *states: State) -> list[Item]:
        """All in these states."""
        if len(states) == 1:
            return list(self._by_state[states[0]].values())
        return [item for state in states for item in self._by_state[state].values()]

    def some(self, *states: State, rule: Callable[[Item], bool]) -> list[Item]:
        """As many as one call of housekeeping may change."""
        return list(islice(filter(rule, self.of(*states)), HOUSEKEEPING_BATCH))

    def running(self) -> Counter[str]:
        """Number of running instances by group."""
        return Counter(item.new.group for item in self.of(State.RUNNING))

    def get(self, instance_id: str) -> Item | None:
        return self._by_id.get(instance_id)

    def find(self, instance_id: str) -> Item:
        """:raises InstanceNotFound:"""
        try:
            return self._by_id[instance_id]
        except KeyError:
            raise InstanceNotFound(instance_id) from None

    def waiting_with(self, key: str | None) -> Item | None:
        """The one instance that waits with a unique key."""
        return self._by_key.get(key) if key is not None else None

    def holder_of(self, key: str | None, now: int) -> tuple[Item | None, list[Ended]]:
        """The same. An instance past its deadline holds no key: it expires here, and is reported."""
        item = self.waiting_with(key)
        if item is not None and item.overdue(now):
            return None, [self.expire(item, now)]
        return item, []

    def held(self, leases: Iterable[tuple[str, str]], session: str) -> list[Item]:
        """Those of the leases (id, token) that the session holds."""
        found = ((self.get(instance_id), token) for instance_id, token in leases)
        return [item for item, token in found if item and item.token == token and item.session == session]

    def last_enqueue(self, after: int, until: int) -> int | None:
        """When the last waiting instance was enqueued, in that time."""
        times = (item.enqueued for item in self.of(*WAITING))
        return max((time for time in times if after < time <= until), default=None)

    # -- arrows --------------------------------------------------------------------------------------------------

    def add(self, new: NewInstance, now: int, *, claims: bool = True) -> Item:
        """new -> queued, scheduled. :param claims: whether it holds its key."""
        state = State.SCHEDULED if new.due is not None and new.due > now else State.QUEUED
        due = max(now, new.due or 0)
        key = new.key if claims else None
        item = Item(new, state, due, place=next(self._places), enqueued=now, key=key, body=new.body)
        self._by_id[new.id] = self._by_state[state][new.id] = item
        if item.key is not None:
            self._by_key[item.key] = self._newest[item.key] = item
        self._changed.notify_all()
        return item

    def move(self, item: Item, state: State) -> None:
        """Change only the state."""
        del self._by_state[item.state][item.new.id]
        item.state = state
        self._by_state[state][item.new.id] = item

    def free_key(self, item: Item) -> None:
        """It no longer waits."""
        if item.key is not None:
            del self._by_key[item.key]
            item.key = None

    def start(self, item: Item, session: str, now: int) -> Lease:
        """queued -> running."""
        self.free_key(item)
        self.move(item, State.RUNNING)
        item.session, item.started, item.token = session, now, token_hex(8)
        item.reason = item.error = None
        new, body = item.new, item.body or b""
        return Lease(
            new.id, item.token, new.name, new.envelope, body, new.group, new.priority,
            item.attempts, item.crashes, item.held_since, item.due, now,
        )  # fmt: skip

    def back(self, item: Item, state: State, due: int, now: int, *, by_hand: bool = False) -> list[Ended]:
        """running, dead -> queued, scheduled; with the old rank. Only the newest instance with a key waits: an older
        one is cancelled and reported.

        :param by_hand: an operator runs it again, even if there was a newer one.
        """
        newest = self._newest.get(item.new.key or "", item)
        # Newer by the clocks of both servers, and stored later.
        is_later = newest.is_newer_than(item, now) and newest.place > item.place
        if is_later and not by_hand and newest.state is not State.CANCELLED:
            return [self.finish(item, State.CANCELLED, now, f"superseded by {newest.new.id}")]
        holder, ended = self.holder_of(item.new.key, now)
        if holder is not None and holder.is_newer_than(item, now):
            return [*ended, self.finish(item, State.CANCELLED, now, f"superseded by {holder.new.id}")]
        if holder is not None:
            ended.append(self.finish(holder, State.CANCELLED, now, f"superseded by {item.new.id}"))
        self.move(item, state)
        item.due, item.token, item.session = due, None, None
        if item.new.key is not None:
            item.key = item.new.key
            self._by_key[item.key] = item
        self._changed.notify_all()
        return ended

    def finish(self, item: Item, state: State, now: int, reason: str | None, error: str | None = None) -> Ended:
        """Any transition to a final state."""
        self.free_key(item)
        self.move(item, state)
        item.token, item.session, item.ended, item.end_place = None, None, now, next(self._places)
        item.reason, item.error = reason, error
        if state is not State.DEAD:
            item.body = None
        if self._by_state[State.QUEUED]:  # its group may have room now
            self._changed.notify_all()
        return item.ended_as(state, reason or "")

    def expire(self, item: Item, now: int) -> Ended:
        """queued, scheduled -> expired."""
        return self.finish(item, State.EXPIRED, now, "the deadline passed while it waited")

    def crash(self, item: Item, now: int, *, alone: bool = True) -> list[Ended]:
        """running -> queued, dead or expired, because its worker died.

        :param alone: whether it was the only instance in that process, so that only this one can have crashed it.
        """
        item.note(json.dumps({"at": now, "event": "crashed", "session": item.session}))
        item.crashes += 1
        if item.overdue(now):
            return [self.finish(item, State.EXPIRED, now, "the deadline passed when its worker had died")]
        if alone and item.crashes >= MAX_CRASHES:
            return [self.finish(item, State.DEAD, now, f"took down its workers {item.crashes} times")]
        item.reason = f"its worker died (session {item.session})"
        superseded = self.back(item, State.QUEUED, now, now)
        recovered = [item.ended_as(State.QUEUED, item.reason)] if item.state is State.QUEUED else []
        return [*recovered, *superseded]

    def carry_out(self, end: End, now: int) -> list[Ended] | None:
        """Any transition out of running, if the lease is still held; else None. Returns the instances that it
        superseded."""
        item = self.get(end.id)
        if item is None or item.token is None or item.token != end.token:
            return None
        item.attempts += end.counted
        if end.entry is not None:
            item.note(end.entry)
        if end.body is not None:
            item.body = end.body
            item.new = msgspec.structs.replace(item.new, envelope=end.envelope or item.new.envelope)
        held = not end.counted and end.due is not None
        item.held_since = (item.held_since or now) if held else None
        if end.state in ENDED:
            self.finish(item, end.state, now, end.reason, end.error)
            if end.state is State.DONE:
                item.body = end.body
            return []
        item.reason, item.error = end.reason, end.error
        return self.back(item, end.state, now if end.due is None else end.due, now)

    def drop(self, item: Item) -> None:
        """Remove the record."""
        if item.new.key is not None and self._newest.get(item.new.key) is item:
            del self._newest[item.new.key]
        del self._by_state[item.state][item.new.id], self._by_id[item.new.id]
