"""A storage on a server or in a file, as one place of a history."""

from __future__ import annotations

import itertools
from typing import Any

from pijobs.jobs import State
from pijobs.testing.simulation.places import Place

#: Numbers the queues, so that each history has its own.
names = itertools.count()


class Served(Place):
    """A storage that would wait and read the clock by itself."""

    waits_inside, shares_connections = False, True

    def _read(self) -> Any:
        """All data of the storage."""
        raise NotImplementedError

    def _write(self, held: Any) -> None:
        """Replace all data; None: delete it."""
        raise NotImplementedError

    def _spoil(self, instance_id: str) -> None:
        raise NotImplementedError

    def remember(self) -> None:
        self._memory = self._read()

    def go_back(self) -> None:
        self._write(self._memory)
        self.losses.append((self.world.now, "restored"))

    def empty(self) -> None:
        self._write(None)
        self.losses.append((self.world.now, "emptied"))

    def damage(self) -> str | None:
        self.before_call()
        waiting = self.truth.page(State.QUEUED, limit=1000).records
        if not waiting:
            return None
        self._spoil(waiting[-1].id)
        return waiting[-1].id

    def close(self) -> None:
        self.truth.close()
