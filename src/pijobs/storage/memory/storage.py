"""The contract in process memory.

One lock protects everything. Instances are kept by state, so each rule is a scan over its states.
"""

from __future__ import annotations

from pijobs.storage import contract
from pijobs.storage.memory.people import ForPeople
from pijobs.storage.memory.servers import ForServers
from pijobs.storage.memory.workers import ForWorkers


class MemoryStorage(ForServers, ForWorkers, ForPeople, contract.Storage):
    """A queue that ends with its process.

    :param name: of the queue; two objects never share instances, even with the same name.
    :param clock: the source of the time.
    """
