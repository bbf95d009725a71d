"""The contract in process memory.

Everything happens under one lock; instances are kept by state, so that each rule reads as a scan over the states it
speaks of.
"""

from __future__ import annotations

from pijobs.storage import contract
from pijobs.storage.memory.people import ForPeople
from pijobs.storage.memory.servers import ForServers
from pijobs.storage.memory.workers import ForWorkers


class MemoryStorage(ForServers, ForWorkers, ForPeople, contract.Storage):
    """A queue that lives and dies with its process.

    :param name: of the queue; two objects never meet, whatever their names.
    :param clock: where the time comes from.
    """
