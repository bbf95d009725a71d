"""The world of the running history."""

from __future__ import annotations

from pijobs.testing.simulation.world import World

#: None: no history runs.
world: World | None = None


def here() -> World:
    """The present world. :raises AssertionError: if no history runs."""
    assert world is not None, "no history runs"
    return world
