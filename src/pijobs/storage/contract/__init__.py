"""What every storage promises.

A storage keeps job instances and moves them along the arrows of the state diagram; it decides nothing about jobs.
One suite (``tests/contract``) holds all storages to this module.

* All times are whole milliseconds since the epoch **on the storage's own clock** (:meth:`Storage.now`); all
  durations are milliseconds. Clocks of servers and workers do not matter.
* Each method that changes something is one atomic operation: after a crash at any moment either all of it
  happened or nothing.
* Whatever goes wrong with the connection is raised as :class:`~pijobs.errors.StorageUnavailable`, with the foreign
  error as its cause and no password in its text. So is a storage that belongs to another release, as
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
    """The contract. See the module for what holds for all methods."""
