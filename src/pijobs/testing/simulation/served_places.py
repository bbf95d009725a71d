"""A storage that is kept elsewhere, as one place of a history."""

from __future__ import annotations

import itertools
from typing import Any

from pijobs.jobs import State
from pijobs.testing.simulation.places import Place

#: Each history has queues of its own.
names = itertools.count()


class Served(Place):
    """A storage that waits and keeps time by itself, unless it is told not to."""

    waits_inside, shares_connections = False, True

    def _read(self) -> Any:
        """All that it holds."""
        raise NotImplementedError

    def _write(self, held: Any) -> None:
        """In the place of all that it holds; None: nothing."""
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
