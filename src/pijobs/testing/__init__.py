"""Fixtures and functions for the tests of plugins. pytest finds the fixtures of :mod:`pijobs.testing.plugin`.

The queue is in memory. All else is real: settings, plugins, codec, and the engine that runs the jobs.
"""

from pijobs.testing.clock import ManualClock
from pijobs.testing.drain import Drained, drain
from pijobs.testing.enqueued import Enqueued, assert_enqueued, enqueued
from pijobs.testing.storage import SwitchedStorage, in_memory

__all__ = [
    "Drained",
    "Enqueued",
    "ManualClock",
    "SwitchedStorage",
    "assert_enqueued",
    "drain",
    "enqueued",
    "in_memory",
]
