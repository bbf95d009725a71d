"""The groups of a queue in memory, and events that are counted against a limit."""

from __future__ import annotations

from dataclasses import dataclass

from pijobs.storage.records import GroupRecord
from pijobs.storage.values import Pause


@dataclass(slots=True)
class Group:
    """A group: how many of its instances may run, and until when none may."""

    limit: int | None = None
    blocked_until: int | None = None
    pause: Pause | None = None
    policy: str = ""
    version: int = 0
    keep_until: int = 0

    def is_open(self, now: int) -> bool:
        return self.pause is None and (self.blocked_until is None or self.blocked_until <= now)

    def has_room(self, running: int, now: int) -> bool:
        return self.is_open(now) and (self.limit is None or running < self.limit)

    def is_forgettable(self, now: int) -> bool:
        return self.is_open(now) and self.keep_until <= now

    def record(self, name: str, *, running: int, waiting: int) -> GroupRecord:
        return GroupRecord(
            name, running, waiting, self.limit, self.blocked_until, self.pause, self.policy, self.version
        )


class Counts:
    """Events by key, for as long as their window (ms) reaches."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[int, list[int]]] = {}

    def count(self, key: str, now: int, *, limit: int, per: int) -> int | None:
        """:meth:`Storage.count` at a time."""
        times = [time for time in self._counted.get(key, (per, []))[1] if time > now - per]
        if len(times) >= limit:
            return times[-limit] + per
        self._counted[key] = per, [*times, now]
        return None

    def trim(self, now: int) -> None:
        """Remove keys whose last event is out of its window."""
        for key, (per, times) in list(self._counted.items()):
            if times[-1] + per <= now:
                del self._counted[key]
