"""The world that the calling code lives in."""

from __future__ import annotations

from pijobs.testing.simulation.world import World

#: That of the history that runs.
world: World | None = None


def here() -> World:
    """The same, where there must be one."""
    assert world is not None, "no history runs"
    return world
