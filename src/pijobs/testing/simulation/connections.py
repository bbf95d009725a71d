"""The connections of a process to a place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pijobs.errors import PijobsError, StorageUnavailable
from pijobs.storage.pool import ConnectionPool
from pijobs.testing.simulation.world import Process, World

#: Seconds that a call takes on its way, each way, and that one without a time-out of its own waits for its answer.
LATENCY, PATIENCE = 0.002, 1.0


class _Connection:
    """One of a process, which one thread uses at a time."""

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
            raise  # nobody knows what would be read next: it must not be used again
        except PijobsError:
            self._is_used = False
            raise
        self._is_used = False

    def __deepcopy__(self, memo: object) -> _Connection:
        """A fork copies no server's end of it."""
        return self


class Connections:
    """Makes the connections of a process to a place.

    :param arrive: raises what keeps a call from arriving, given its name, when it began, and its patience.
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
