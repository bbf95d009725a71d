"""A storage in memory that a test can switch off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pijobs.base.clock import Clock
from pijobs.errors import StorageUnavailable
from pijobs.request.queue import Queue
from pijobs.request.storages import retention_of
from pijobs.storage.contract import Storage
from pijobs.storage.memory import MemoryStorage


class SwitchedStorage(MemoryStorage):
    """The storage in memory. While :meth:`is_down`, all methods fail that would ask a real storage's server."""

    _down = False
    #: Begin of the queue under test (ms); missed periodic runs before it are not made up.
    since: int | None = None

    @contextmanager
    def is_down(self) -> Iterator[None]:
        """Within this context the storage does not answer, and keeps its data."""
        self._down = True
        try:
            yield
        finally:
            self._down = False

    def _ask(self) -> None:
        if self._down:
            raise StorageUnavailable("the storage does not answer: the test switched it off")


def _guarded(name: str) -> Any:
    method = getattr(MemoryStorage, name)

    def asked(self: SwitchedStorage, *args: Any, **kwargs: Any) -> Any:
        self._ask()
        return method(self, *args, **kwargs)

    return asked


# All methods of the contract that need an answer, so that a new method can't be forgotten.
for _name in Storage.__abstractmethods__ - {"now", "close", "wake"}:
    setattr(SwitchedStorage, _name, _guarded(_name))


def in_memory(queue: Queue, clock: Clock | None = None) -> SwitchedStorage:
    """Give an unused queue a storage in memory.

    :param clock: clock of the storage, such as a :class:`~pijobs.testing.ManualClock`.
    """
    queue.storage = SwitchedStorage(queue.settings.name, clock=clock, retention=retention_of(queue.settings))
    queue.storage.since = queue.storage.now()
    return queue.storage
