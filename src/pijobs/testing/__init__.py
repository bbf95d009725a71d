"""What a plugin's own tests need. pytest finds the fixtures of :mod:`pijobs.testing.plugin` by itself.

The queue is in memory, but all else is real: the settings and plugins, the codec, the engine that runs the jobs.
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
