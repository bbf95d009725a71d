"""Leases that may have been taken, though the answer that tells of them never came.

The session that asked for them goes on to live, so they would be renewed for ever, and nobody would run them. So the
signs of life of the session name them, and the storage gives back what it finds.
"""

from __future__ import annotations

import threading
import time

#: A request that got no answer may be carried out even after a later one: it lay in the buffer of a server that was
#: stopped, or in that of the network. So long (seconds) after a sign of life that was answered it is still named.
LINGER = 60.0


class Doubts:
    """By session and token. Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: When a sign of life named it and was answered (monotonic seconds).
        self._named: dict[tuple[str, str], float | None] = {}

    def add(self, session: str, token: str) -> None:
        """The answer to a request for leases did not come."""
        with self._lock:
            self._named[session, token] = None

    def of(self, session: str) -> list[str]:
        """What the next sign of life has to name."""
        with self._lock:
            return [token for holder, token in self._named if holder == session]

    def named(self, session: str, tokens: list[str]) -> None:
        """A sign of life that named them was answered."""
        if not tokens:
            return
        now = time.monotonic()
        with self._lock:
            for token in tokens:
                first = self._named.get((session, token))
                if first is None:
                    self._named[session, token] = now
                elif now - first > LINGER:
                    del self._named[session, token]
