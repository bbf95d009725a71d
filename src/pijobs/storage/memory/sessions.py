"""The sessions of the storage in memory, and when one counts as dead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pijobs.storage.sessions import SessionInfo


@dataclass(slots=True)
class LiveSession:
    """A session; times in ms."""

    info: SessionInfo
    seen: int
    until: int


class Sessions:
    """All sessions, by id.

    :param last_enqueue: the time of the last enqueue after one time, and not after another.
    """

    def __init__(self, last_enqueue: Callable[[int, int], int | None]) -> None:
        self._last_enqueue = last_enqueue
        self._by_id: dict[str, LiveSession] = {}
        #: The last sign of life of any session.
        self.seen: int | None = None

    def __contains__(self, session: str | None) -> bool:
        return session in self._by_id

    def get(self, session: str) -> LiveSession | None:
        return self._by_id.get(session)

    def live(self, now: int) -> list[LiveSession]:
        """Those whose lease has not run out, oldest first."""
        found = [session for session in self._by_id.values() if session.until > now]
        return sorted(found, key=lambda session: session.info.started)

    def open(self, info: SessionInfo, now: int, lease: int) -> None:
        self._keep_through_a_gap(now, lease)
        self._by_id[info.id] = LiveSession(info, seen=now, until=now + lease)
        self.seen = now

    def renew(self, session: str, now: int, lease: int) -> int | None:
        """Note a sign of life; return the one before, of this session or else of any."""
        self._keep_through_a_gap(now, lease)
        before, self.seen = self.seen, now
        if known := self._by_id.get(session):
            before, known.seen, known.until = known.seen, now, now + lease
        return before

    def close(self, session: str) -> None:
        self._by_id.pop(session, None)

    def bury(self, now: int) -> None:
        """Remove those whose lease has run out."""
        self._by_id = {name: session for name, session in self._by_id.items() if session.until > now}

    def _keep_through_a_gap(self, now: int, lease: int) -> None:
        """No session is dead because the storage was away, or because its clock was set."""
        if self.seen is None:
            return
        if self.seen > now + lease // 4:
            for session in self._by_id.values():
                if session.seen > now:
                    session.until = now + session.until - session.seen
            return
        silence = now - self.seen
        if silence <= lease // 2 or self._was_reachable(max(self.seen, now - lease - lease // 2), now, lease // 2):
            return
        for session in self._by_id.values():
            if silence > lease:
                session.until = max(session.until, now + lease)
            else:
                session.until += silence - lease // 2

    def _was_reachable(self, since: int, now: int, gap: int) -> bool:
        """Whether enqueues leave no gap. They must reach further back than the lease by a gap; otherwise an outage that
        ended within it would not be noticed."""
        while now - since > gap:
            enqueued = self._last_enqueue(since, since + gap)
            if enqueued is None:
                return False
            since = enqueued
        return True
