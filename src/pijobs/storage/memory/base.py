"""The base of all parts of the storage in memory: clock, lock, version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pijobs.base import threads
from pijobs.base.clock import Clock, SystemClock, to_ms
from pijobs.jobs import WAITING, State
from pijobs.storage import contract, protocol
from pijobs.storage.memory.groups import Counts, Group
from pijobs.storage.memory.items import Item, Items
from pijobs.storage.memory.sessions import Sessions
from pijobs.storage.periods import Period
from pijobs.storage.records import GroupRecord, Loss
from pijobs.storage.values import NewInstance, Pause, Retention

FINISHED = (State.DONE, State.EXPIRED, State.CANCELLED)


class MemoryBase(contract.Base):
    """The base class of :mod:`servers`, :mod:`workers` and :mod:`people`."""

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
        #: How often all waiting workers were woken.
        self._wakes = 0
        #: The protocol of what is written, and the oldest one that can read it.
        self._protocol = (protocol.FIRST, protocol.FIRST)

    def now(self, *, timeout: float = 0.2) -> int:
        return to_ms(self._clock.time())

    def ping(self) -> None:
        """Memory always answers."""

    def close(self) -> None:
        """There is nothing to close."""

    def _know_group(self, new: NewInstance) -> None:
        group = self._groups.setdefault(new.group, Group())
        if group.limit is None and not group.version:  # new, or paused before its first instance
            group.limit = new.limit

    def set_protocol(self, number: int, *, oldest_reader: int) -> None:
        with self._lock:
            self._protocol = number, oldest_reader
            self.protocol = number

    def _look_at_protocol(self) -> None:
        """There are no connections."""
        self.protocol = protocol.judge(*self._protocol, self.display_url)

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

    def _group_record(self, name: str) -> GroupRecord:
        waiting = sum(item.new.group == name for item in self._items.of(*WAITING))
        return self._groups[name].record(name, running=self._items.running()[name], waiting=waiting)
