"""Simulates the connections of a process to a storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pijobs.errors import PijobsError, StorageUnavailable
from pijobs.storage.pool import ConnectionPool
from pijobs.testing.simulation.world import Process, World

#: Most seconds of a call each way, and the time-out of a call without one of its own.
LATENCY, PATIENCE = 0.002, 1.0


class _Connection:
    """A connection of a process, for one thread at a time."""

    def __init__(self, process: Process) -> None:
        self._process, self._is_used = process, False

    @contextmanager
    def used_by(self, process: Process) -> Iterator[None]:
        assert process is self._process, f"{process.name} uses a connection of {self._process.name}"
        assert not self._is_used, f"two threads of {process.name} use one connection"
        self._is_used = True
        try:
            yield
        except StorageUnavailable:
            raise  # its state is unknown: it must not be used again
        except PijobsError:
            self._is_used = False
            raise
        self._is_used = False

    def __deepcopy__(self, memo: object) -> _Connection:
        """A fork does not copy the server's end."""
        return self


class Connections:
    """Makes the connections of a process to a storage.

    :param arrive: raises the error that stops a call; takes the call's name, begin, and time-out (seconds).
    """

    def __init__(self, world: World, process: Process, arrive: Callable[[str, float, float], None]) -> None:
        self._world, self._process, self._arrive = world, process, arrive

    def pool(self) -> ConnectionPool[_Connection]:
        return ConnectionPool(self._connect, lambda connection: None, connect_within=self._connect)

    def _connect(self, within: float = PATIENCE) -> _Connection:
        began = self._world.now
        self._world.pause(min(within, self._world.random.random() * LATENCY))
        self._arrive("ping", began, within)
        return _Connection(self._process)
