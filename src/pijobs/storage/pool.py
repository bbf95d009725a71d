"""Connections to a server, and how long a caller waits for one. A request may wait a quarter of a second for the
storage. So the calling thread connects if that has a time limit. If a name must be resolved, or a driver has no time
limit, another thread connects, and the caller stops waiting when its time is over. This thread also connects while the
server is away, so that an outage costs one request its time-out, and not all of them. It ends when there is nothing to
connect, so a server that forks, or that runs no threads, has no thread of ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Generic, TypeVar

from pijobs.base import clock, threads
from pijobs.errors import PijobsError, StorageUnavailable
from pijobs.storage.pool_state import PoolState

C = TypeVar("C")


class ConnectionPool(Generic[C]):
    """Connections that are lent and used again.

    After a failure to connect the pool is *down*: :meth:`take` fails at once until a thread has connected again. A
    child process starts with no connections and leaves those of its parent alone.

    :param connect: creates a connection; may take long, but must end.
    :param close: closes one; its exceptions are ignored.
    :param connect_within: creates a connection within that many seconds, in the calling thread; None: it has no time
        limit.
    :param size: the most connections.
    :param retry_after: seconds between the first two attempts to connect; doubles up to ``retry_max``. After an outage
        each worker must reconnect within a lease; otherwise the first ones count it as dead. A lease may be 1 s.
    :param usable: whether an idle connection is still open, found out without a round trip.
    """

    def __init__(
        self,
        connect: Callable[[], C],
        close: Callable[[C], None],
        *,
        connect_within: Callable[[float], C] | None = None,
        size: int = 8,
        retry_after: float = 0.5,
        retry_max: float = 1.0,
        usable: Callable[[C], bool] = lambda connection: True,
    ) -> None:
        self._connect = connect
        self._close = close
        self._connect_within = connect_within
        self._size = size
        self._retry_after = retry_after
        self._retry_max = retry_max
        self._usable = usable
        # By process. The parent's stay referenced, so that no finaliser closes its connections in the child.
        self._states: dict[int, PoolState[C]] = {}

    def take(self, timeout: float) -> AbstractContextManager[C]:
        """Lend a connection. If a :class:`StorageUnavailable` leaves the block, the connection is broken.

        :param timeout: seconds to wait for one.
        :raises StorageUnavailable: when there is none.
        """
        return _Loan(self, timeout)

    def close(self) -> None:
        """Close idle connections now, and lent ones when they are returned; end the thread. The pool can be used
        again."""
        state = self._states.pop(os.getpid(), None)
        if state is None:
            return
        with state.changed:
            state.closed = True
            idle, state.idle = state.idle + state.scrap, []
            state.scrap = []
            # A thread that hangs in a connect ends by itself later.
            thread = None if state.connecting else state.thread
            state.changed.notify_all()
        self._close_all(idle)
        if thread is not None and thread is not threads.current_thread():
            thread.join(1.0)

    def _state(self) -> PoolState[C]:
        pid = os.getpid()
        # setdefault is atomic; a lock could have been copied by the fork while another thread held it.
        return self._states.get(pid) or self._states.setdefault(pid, PoolState(pid, self._retry_after))

    def _obtain(self, state: PoolState[C], timeout: float) -> C:
        end = clock.monotonic() + timeout
        try:
            connection = self._wait_for_one(state, end, timeout)
            return self._connect_here(state, end) if connection is None else connection
        finally:
            if state.scrap:
                scrap, state.scrap = state.scrap, []
                self._close_all(scrap)

    def _wait_for_one(self, state: PoolState[C], end: float, timeout: float) -> C | None:
        """None: the caller is to connect."""
        with state.changed:
            state.asked = clock.monotonic()
            state.waiting += 1
            try:
                while True:
                    if (connection := self._pick(state)) is not None:
                        return connection
                    if state.closed:
                        raise StorageUnavailable("the storage was closed")
                    if self._connects_here(state):
                        state.opening += 1
                        return None
                    if state.trouble is not None:
                        raise _unavailable(state.trouble)
                    left = end - clock.monotonic()
                    if left <= 0:
                        raise self._too_late(state, timeout)
                    state.changed.wait(left)
            finally:
                state.waiting -= 1

    def _pick(self, state: PoolState[C]) -> C | None:
        while state.idle:
            connection = state.idle.pop()
            if self._usable(connection):
                state.lent += 1
                return connection
            state.scrap.append(connection)
        return None

    def _too_late(self, state: PoolState[C], timeout: float) -> StorageUnavailable:
        if state.thread is None or state.lent:
            # A connection in use may be returned in a moment: that is no outage.
            number = state.lent if state.lent else self._size
            return StorageUnavailable(f"all {number} connections to the storage were in use for {timeout:.3g} s")
        state.trouble = StorageUnavailable(f"could not connect to the storage within {timeout:.3g} s")
        state.changed.notify_all()
        return _unavailable(state.trouble)

    def _give_back(
        self,
        state: PoolState[C],
        connection: C,
        *,
        broken: bool = False,
        trouble: StorageUnavailable | None = None,
        late: bool = False,
    ) -> None:
        if state.pid != os.getpid():
            state.idle.append(connection)
            return
        with state.changed:
            news = state.waiting or state.trouble is not None or broken or state.closed
            state.lent -= 1
            broken = broken or state.closed
            scrap: list[C] = [connection] if broken else []
            if not broken:
                state.idle.append(connection)
                state.trouble = None
            elif trouble is not None:
                # The other idle ones lead to the same server.
                scrap += state.idle
                state.idle = []
                if late:
                    # A server that hangs up may accept the next connection; a silent one would cost another time-out.
                    state.fail(_unavailable(trouble), self._retry_max)
                    self._start_connector(state)
            if news:
                state.changed.notify_all()
        self._close_all(scrap)

    # -- in the calling thread ---------------------------------------------------------------------------------------

    def _connects_here(self, state: PoolState[C]) -> bool:
        """Whether the caller connects; if not, a thread does, if there is room."""
        if not state.has_room(self._size):
            return False
        if state.trouble is None and self._connect_within is not None:
            return True
        if self._start_connector(state):
            return False
        return state.trouble is None or clock.monotonic() >= state.retry_at

    def _connect_here(self, state: PoolState[C], end: float) -> C:
        connection, trouble = None, None
        try:
            if self._connect_within is None:
                connection = self._connect()
            else:
                connection = self._connect_within(max(0.001, end - clock.monotonic()))
        except Exception as error:
            # Without the traceback: its frames would keep a password alive.
            trouble = error.with_traceback(None)
        finally:
            with state.changed:
                state.opening -= 1
                if connection is not None:
                    state.lent += 1
                    state.trouble = None
                elif trouble is not None:
                    state.fail(trouble, self._retry_max)
                    self._start_connector(state)
                state.changed.notify_all()
        if connection is None:
            raise _unavailable(trouble or StorageUnavailable())
        return connection

    # -- in a thread -------------------------------------------------------------------------------------------------

    def _start_connector(self, state: PoolState[C]) -> bool:
        """Whether there is a thread that connects."""
        if state.thread is not None:
            state.changed.notify_all()
            return True
        if not threads.may_start():
            return False
        thread = threads.Thread(target=self._run, args=(state,), name="pijobs-connect", daemon=True)
        state.thread = thread
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends
            state.thread = None
            return False
        return True

    def _run(self, state: PoolState[C]) -> None:
        while self._wait_for_work(state):
            try:
                connection = self._connect()
            except Exception as error:
                self._failed(state, error.with_traceback(None))
            else:
                self._connected(state, connection)

    def _wait_for_work(self, state: PoolState[C]) -> bool:
        with state.changed:
            work = state.connecting = not state.closed and state.wants(self._size)
            if not work:
                state.thread = None
            scrap, state.scrap = state.scrap, []
        self._close_all(scrap)
        return work

    def _connected(self, state: PoolState[C], connection: C) -> None:
        with state.changed:
            closed = state.closed
            state.connecting = False
            if not closed:
                state.trouble = None
                state.delay = self._retry_after
                state.idle.append(connection)
                state.changed.notify_all()
        if closed:
            self._close_all([connection])

    def _failed(self, state: PoolState[C], error: Exception) -> None:
        with state.changed:
            state.connecting = False
            state.fail(error, self._retry_max)
            state.changed.notify_all()
            while state.is_down() and (left := state.retry_at - clock.monotonic()) > 0:
                state.changed.wait(left)

    def _close_all(self, connections: list[C]) -> None:
        for connection in connections:
            with suppress(Exception):
                self._close(connection)


class _Loan(AbstractContextManager[C]):
    """A lent connection. A class, because a generator takes a microsecond longer for each call."""

    __slots__ = ("_connection", "_end", "_pool", "_state", "_timeout")

    def __init__(self, pool: ConnectionPool[C], timeout: float) -> None:
        self._pool, self._timeout = pool, timeout

    def __enter__(self) -> C:
        self._state = self._pool._state()
        self._end = clock.monotonic() + self._timeout
        self._connection = self._pool._obtain(self._state, self._timeout)
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        trouble = error if isinstance(error, StorageUnavailable) else None
        # After an interruption between question and answer, the next read could return anything.
        broken = error is not None and (trouble is not None or not isinstance(error, PijobsError))
        late = trouble is not None and clock.monotonic() >= self._end
        self._pool._give_back(self._state, self._connection, broken=broken, trouble=trouble, late=late)


def _unavailable(trouble: Exception) -> StorageUnavailable:
    if isinstance(trouble, StorageUnavailable):
        # A new one for each caller, because each adds its traceback.
        error = type(trouble)(str(trouble))
    else:
        # Only the type: a foreign text may quote the URL with its password.
        error = StorageUnavailable(f"could not connect to the storage ({type(trouble).__name__})")
    error.__cause__ = trouble
    return error
