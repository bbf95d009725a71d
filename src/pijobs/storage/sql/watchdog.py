"""Ends operations that take too long. No driver limits a whole operation: PyMySQL's time-outs are per packet, psycopg
waits for ever, and a server that vanished during a query never answers. So one thread closes connections whose time is
over, which ends the wait of the thread that uses them. This costs the caller little (no hand-over to another thread),
and it always works. It does not cover DNS, TCP and TLS, because :mod:`pijobs.storage.pool` connects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from pijobs.base import clock, threads

#: Seconds without work after which the thread ends.
LINGER = 10.0


class Watchdog:
    """Calls a function when its time is over. Starts its thread with the first work."""

    def __init__(self) -> None:
        self._changed = threads.Condition()
        self._watched: dict[int, tuple[float, Callable[[], None]]] = {}
        self._numbers = count()
        self._thread: threads.Thread | None = None
        #: When the thread looks next, unless it is woken.
        self._next = float("inf")
        self._used = 0.0
        self._closing = False

    @contextmanager
    def guard(self, end: float, hang_up: Callable[[], None]) -> Iterator[None]:
        """Call ``hang_up`` if the block has not ended at ``end`` (monotonic seconds). It is never called later."""
        if not threads.may_start():  # nobody waits for an answer there, and the driver has its own time limits
            yield
            return
        number = next(self._numbers)
        with self._changed:
            self._watched[number] = end, hang_up
            self._used, self._closing = clock.monotonic(), False
            if self._thread is None:
                self._thread = threads.Thread(target=self._run, name="pijobs-watchdog", daemon=True)
                self._thread.start()
            elif end < self._next:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._watched.pop(number, None)

    def close(self) -> None:
        """End the thread as soon as nothing is watched; it starts again with the next work."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while True:
                now = clock.monotonic()
                for number, (end, hang_up) in list(self._watched.items()):
                    if end <= now:
                        del self._watched[number]
                        hang_up()
                ends = [end for end, _ in self._watched.values()]
                if not ends and (self._closing or now - self._used >= LINGER):
                    self._thread = None
                    return
                self._next = min(ends, default=now + LINGER)
                self._changed.wait(self._next - now)
