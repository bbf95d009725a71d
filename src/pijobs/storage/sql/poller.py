"""One thread per process that looks whether a step would find something, for all that wait. It asks the same as a step
(which instance may start next, and when time alone changes that), so it wakes nobody in vain. On SQLite it first asks
whether the file has changed, which ``PRAGMA data_version`` answers in a few microseconds. The thread starts with the
first wait and ends when nobody has waited for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pijobs.base import clock, threads
from pijobs.errors import PijobsError

#: Seconds that the thread has to end, before and after its connection is closed.
CLOSE_PATIENCE = 1.0
#: Seconds until the next look after one that failed.
RETRY = 0.1
#: Seconds without anybody waiting after which the thread ends.
LINGER = 5.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What the poller saw."""

    #: The highest priority that can start; None: nothing can.
    priority: int | None
    #: Whether something must be promoted, of any priority.
    promotable: bool
    #: Seconds until that may change by time alone; None: never.
    changes_in: float | None

    def concerns(self, floor: int | None) -> bool:
        ready = self.priority is not None and (floor is None or self.priority >= floor)
        return ready or self.promotable


@dataclass(slots=True, eq=False)
class _Waiter:
    floor: int | None
    woken: threads.Event = field(default_factory=lambda: threads.Event())


class Eye:
    """How the poller looks; only its thread creates and uses it."""

    #: Seconds between two looks.
    interval: float

    def changed(self) -> bool:
        """Whether something may have changed."""
        raise NotImplementedError

    def look(self) -> Sight:
        raise NotImplementedError

    def hang_up(self) -> None:
        """End a look that takes too long; from another thread."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Poller:
    """:param open_eye: creates its :class:`Eye`."""

    def __init__(self, open_eye: Callable[[], Eye]) -> None:
        self._open_eye = open_eye
        self._lock = threads.Lock()
        self._waiters: set[_Waiter] = set()
        self._nudge = threads.Event()
        #: Somebody new waits, or this process changed something: look at once.
        self._look_now = False
        self._thread: threads.Thread | None = None
        self._eye: Eye | None = None
        self._closed = False
        #: When somebody last waited.
        self._wanted = 0.0

    def wait(self, timeout: float, floor: int | None) -> None:
        waiter = _Waiter(floor)
        with self._lock:
            self._waiters.add(waiter)
            self._look_now = True
            if self._thread is None:
                self._closed = False
                self._thread = threads.Thread(target=self._run, name="pijobs-poller", daemon=True)
                self._thread.start()
        self._nudge.set()
        try:
            waiter.woken.wait(timeout)
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def kick(self) -> None:
        """Note that this process changed something."""
        if self._waiters:
            with self._lock:
                self._look_now = True
            self._nudge.set()

    def wake(self) -> None:
        """Wake everybody who waits now."""
        with self._lock:
            waiters = list(self._waiters)
        for waiter in waiters:
            waiter.woken.set()

    def close(self) -> None:
        """End the thread; it starts again with the next wait."""
        with self._lock:
            thread, self._closed = self._thread, True
        self._nudge.set()
        self.wake()
        if thread is not None and thread is not threads.current_thread():
            thread.join(CLOSE_PATIENCE)
            if thread.is_alive() and self._eye:
                self._eye.hang_up()
                thread.join(CLOSE_PATIENCE)

    def _run(self) -> None:
        eye: Eye | None = None
        again_at = float("inf")
        try:
            while not self._is_over():
                try:
                    # Another thread may have taken over while this one closes: each uses its own.
                    eye = self._eye = eye or self._open_eye()
                    asked = self._asked()
                    if eye.changed() or asked or clock.monotonic() >= again_at:
                        sight = eye.look()
                        again_at = clock.monotonic() + (float("inf") if sight.changes_in is None else sight.changes_in)
                        self._tell(sight)
                except PijobsError:
                    # Those who wait find out with their next step, which reports more than this thread could.
                    _close(eye)
                    eye, again_at = None, 0.0
                    self.wake()
                self._pause(eye.interval if eye else RETRY)
        finally:
            _close(eye)
            with self._lock:
                if self._thread is threads.current_thread():
                    self._thread = None

    def _asked(self) -> bool:
        with self._lock:
            asked, self._look_now = self._look_now, False
            return asked

    def _pause(self, interval: float) -> None:
        if self._nudge.wait(interval if self._waiters else LINGER):
            self._nudge.clear()

    def _is_over(self) -> bool:
        with self._lock:
            if self._waiters or self._look_now:
                self._wanted = clock.monotonic()
            over = self._closed or clock.monotonic() - self._wanted >= LINGER
            if over:
                # Under the lock: whoever begins to wait after this starts another thread.
                self._thread = None
            return over

    def _tell(self, sight: Sight) -> None:
        with self._lock:
            waiters = [waiter for waiter in self._waiters if sight.concerns(waiter.floor)]
        for waiter in waiters:
            waiter.woken.set()


def _close(eye: Eye | None) -> None:
    if eye is not None:
        eye.close()
