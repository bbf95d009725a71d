"""Connections that are ready before they are needed.

A request may wait a quarter of a second for the storage, but resolving a name or opening a TCP or TLS connection is
bounded by no driver as exactly as that. So a thread of its own connects, and a request only waits for the result.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Generic, TypeVar

from pijobs.errors import PijobsError, StorageUnavailable

C = TypeVar("C")

#: Seconds for which the connector keeps trying, or stays around, after the last request for a connection.
LINGER = 30.0


class ReadyPool(Generic[C]):
    """Connections that are ready to use, made by a thread of their own, so that no caller waits for DNS, TCP or TLS
    longer than it wants.

    After a failure the pool is *down*: :meth:`take` fails at once until the thread has connected again, so that an
    outage costs one request its time-out and not all of them. A child process starts with no connections and leaves
    those of its parent alone.

    :param connect: makes a connection; may take its time, but must end some day.
    :param close: closes one; what it raises is ignored.
    :param size: at most so many connections.
    :param retry_after: seconds between the first two attempts to connect; doubles up to ``retry_max``.
    :param usable: looks, without a round trip, whether a connection that lay idle is still open.
    """

    def __init__(
        self,
        connect: Callable[[], C],
        close: Callable[[C], None],
        *,
        size: int = 8,
        retry_after: float = 0.5,
        retry_max: float = 5.0,
        usable: Callable[[C], bool] = lambda connection: True,
    ) -> None:
        self._connect = connect
        self._close = close
        self._size = size
        self._retry_after = retry_after
        self._retry_max = retry_max
        self._usable = usable
        # By process: what a parent had stays referenced, so that no finaliser ends its connections in the child.
        self._states: dict[int, _State[C]] = {}

    def take(self, timeout: float) -> AbstractContextManager[C]:
        """Lend a connection. A :class:`StorageUnavailable` that leaves the block says that the connection is broken.

        :param timeout: seconds after which there must be one.
        :raises StorageUnavailable: when there is none.
        """
        return _Loan(self, timeout)

    def close(self) -> None:
        """Close what is idle now and what is lent when it comes back; end the thread. The pool can be used again."""
        state = self._states.pop(os.getpid(), None)
        if state is None:
            return
        with state.changed:
            state.closed = True
            idle, state.idle = state.idle + state.scrap, []
            state.scrap = []
            # A thread that hangs in a connect ends by itself, some time later.
            thread = None if state.connecting else state.thread
            state.changed.notify_all()
        self._close_all(idle)
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)

    def _state(self) -> _State[C]:
        pid = os.getpid()
        # setdefault is atomic; a lock could have been copied by the fork while another thread held it.
        return self._states.get(pid) or self._states.setdefault(pid, _State(pid))

    def _obtain(self, state: _State[C], timeout: float) -> C:
        end = time.monotonic() + timeout
        with state.changed:
            state.asked = time.monotonic()
            state.waiting += 1
            try:
                while True:
                    if (connection := self._pick(state)) is not None:
                        return connection
                    if state.closed:
                        raise StorageUnavailable("the storage was closed")
                    self._start_connector(state)
                    if state.trouble is not None:
                        raise _unavailable(state.trouble)
                    left = end - time.monotonic()
                    if left <= 0:
                        raise self._too_late(state, timeout)
                    state.changed.wait(left)
            finally:
                state.waiting -= 1

    def _pick(self, state: _State[C]) -> C | None:
        while state.idle:
            connection = state.idle.pop()
            if self._usable(connection):
                state.lent += 1
                return connection
            state.scrap.append(connection)
        return None

    def _too_late(self, state: _State[C], timeout: float) -> StorageUnavailable:
        if not state.connecting:
            return StorageUnavailable(f"all {self._size} connections to the storage were in use for {timeout:.3g} s")
        state.trouble = StorageUnavailable(f"could not connect to the storage within {timeout:.3g} s")
        state.changed.notify_all()
        return _unavailable(state.trouble)

    def _give_back(
        self, state: _State[C], connection: C, *, broken: bool = False, trouble: StorageUnavailable | None = None
    ) -> None:
        if state.pid != os.getpid():
            state.idle.append(connection)
            return
        with state.changed:
            state.lent -= 1
            if state.closed:
                broken = True
            elif trouble is not None:
                # The others that lie idle lead to the same place.
                state.trouble = _unavailable(trouble)
                state.scrap += state.idle
                state.idle = []
                with suppress(StorageUnavailable):
                    self._start_connector(state)
            recovered = not broken and state.trouble is not None
            if not broken:
                state.idle.append(connection)
                state.trouble = None
            # Not always: the connector would wake up for each request, and take the interpreter away from it.
            if state.waiting or broken or recovered:
                state.changed.notify_all()
        if broken:
            self._close_all([connection])

    def _start_connector(self, state: _State[C]) -> None:
        if state.thread is None and state.wants(self._size):
            thread = threading.Thread(target=self._run, args=(state,), name="pijobs-connect", daemon=True)
            state.thread = thread
            try:
                thread.start()
            except RuntimeError as error:
                state.thread = None
                raise StorageUnavailable("could not start the thread that connects to the storage") from error
        elif state.thread is not None:
            state.changed.notify_all()

    def _run(self, state: _State[C]) -> None:
        delay = self._retry_after
        while self._wait_for_work(state):
            try:
                connection = self._connect()
            except Exception as error:
                # Without the traceback: its frames would keep a password alive.
                self._failed(state, error.with_traceback(None), delay)
                delay = min(delay * 2, self._retry_max)
            else:
                delay = self._retry_after
                self._connected(state, connection)

    def _wait_for_work(self, state: _State[C]) -> bool:
        with state.changed:
            state.connecting = False
            while not state.closed and not state.wants(self._size):
                if not state.changed.wait(LINGER) and not state.wants(self._size):
                    break
            work = not state.closed and state.wants(self._size)
            state.connecting = work
            if not work:
                state.thread = None
            scrap, state.scrap = state.scrap, []
        self._close_all(scrap)
        return work

    def _connected(self, state: _State[C], connection: C) -> None:
        with state.changed:
            closed = state.closed
            if not closed:
                state.trouble = None
                state.idle.append(connection)
                state.changed.notify_all()
        if closed:
            self._close_all([connection])

    def _failed(self, state: _State[C], error: Exception, delay: float) -> None:
        end = time.monotonic() + delay
        with state.changed:
            state.trouble = error
            state.changed.notify_all()
            while state.is_down() and (left := end - time.monotonic()) > 0:
                state.changed.wait(left)

    def _close_all(self, connections: list[C]) -> None:
        for connection in connections:
            with suppress(Exception):
                self._close(connection)


class _Loan(AbstractContextManager[C]):
    """A connection that is lent; a class, since a generator takes a microsecond more of each call."""

    __slots__ = ("_connection", "_pool", "_state", "_timeout")

    def __init__(self, pool: ReadyPool[C], timeout: float) -> None:
        self._pool, self._timeout = pool, timeout

    def __enter__(self) -> C:
        self._state = self._pool._state()
        self._connection = self._pool._obtain(self._state, self._timeout)
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        trouble = error if isinstance(error, StorageUnavailable) else None
        # Interrupted somewhere between question and answer, nobody knows what would be read next.
        broken = error is not None and (trouble is not None or not isinstance(error, PijobsError))
        self._pool._give_back(self._state, self._connection, broken=broken, trouble=trouble)


class _State(Generic[C]):
    """What a pool has in one process, from first use to close."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.changed = threading.Condition()
        self.idle: list[C] = []
        #: To be closed by the connector, since closing may take time too.
        self.scrap: list[C] = []
        self.lent = 0
        self.waiting = 0
        self.asked = 0.0
        self.connecting = False
        self.closed = False
        #: Why the pool is down.
        self.trouble: Exception | None = None
        self.thread: threading.Thread | None = None

    def is_down(self) -> bool:
        return self.trouble is not None and not self.closed

    def wants(self, size: int) -> bool:
        """Whether one more connection is to be made."""
        if self.lent + len(self.idle) >= size:
            return False
        if self.trouble is not None:
            return time.monotonic() - self.asked < LINGER
        return self.waiting > len(self.idle)


def _unavailable(trouble: Exception) -> StorageUnavailable:
    if isinstance(trouble, StorageUnavailable):
        error = StorageUnavailable(str(trouble))
    else:
        # Only the type: a foreign text may quote the URL with its password.
        error = StorageUnavailable(f"could not connect to the storage ({type(trouble).__name__})")
    error.__cause__ = trouble
    return error
