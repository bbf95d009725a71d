"""The contract in process memory: its executable specification, and the queue of tests and of ``IMMEDIATE``."""

from pijobs.storage.memory.storage import MemoryStorage

__all__ = ["MemoryStorage"]
