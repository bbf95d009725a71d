"""The contract of every storage.

A storage keeps job instances and moves them through the states of the state diagram. It knows nothing about jobs.
One test suite (``tests/contract``) checks all storages against this module.

* All times are whole milliseconds since the epoch **on the storage's own clock** (:meth:`Storage.now`); all
  durations are milliseconds. Clocks of servers and workers do not matter.
* Each method that changes something is one atomic operation: after a crash at any moment, either all of it happened or
  nothing.
* Every failure of the connection is raised as :class:`~pijobs.errors.StorageUnavailable`, with the foreign error as its
  cause and no password in its text. For a storage of another release, this is
  :class:`~pijobs.errors.StorageVersion`.
* Constructors neither connect nor start a thread. An object that was used before a fork works in the child.
* All methods may be called from many threads.
"""

from pijobs.storage.contract.base import Base
from pijobs.storage.contract.people import ForPeople
from pijobs.storage.contract.servers import ForServers
from pijobs.storage.contract.workers import ForWorkers

__all__ = ["Base", "ForPeople", "ForServers", "ForWorkers", "Storage"]


class Storage(Base, ForServers, ForWorkers, ForPeople):
    """The contract. The module describes the rules for all methods."""
