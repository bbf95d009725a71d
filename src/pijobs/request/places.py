"""Where the instances of a queue are: in its storage, and in the spool of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pijobs.errors import InstanceNotFound, StorageUnavailable
from pijobs.storage.contract import Storage
from pijobs.storage.records import Depths, Record

#: What is told with a look at the spool alone.
ONLY_HERE = "only what lies in the spool of this machine is shown"


@dataclass(frozen=True)
class Places:
    """The storage, and the spool where there is one.

    :param path: file of the spool; None: it is no file.
    """

    storage: Storage
    spool: Storage | None = None
    path: str | Path | None = None
    #: Of calls that are part of transactions.
    outbox: Storage | None = None

    def __iter__(self) -> Iterator[Storage]:
        yield self.storage
        # A look must not make the file: it would belong to whoever looked.
        if self.spool is not None and (self.path is None or Path(self.path).exists()):
            yield self.spool
        if self.outbox is not None:
            yield self.outbox

    def within_reach(self) -> tuple[list[Storage], str | None]:
        """Those to look at now; and, if the storage does not answer, a sentence that tells so: what lies in the spool
        of this machine is there all the same.

        :raises StorageUnavailable: of the storage, where there is no spool.
        """
        try:
            self.storage.ping()
        except StorageUnavailable as error:
            if rest := [place for place in self if place is not self.storage]:
                return rest, f"the storage {error.what}: {error}; {ONLY_HERE}"
            raise
        return [*self], None

    def find(self, instance_id: str) -> tuple[Storage, Record]:
        """Where the instance is, and its record.

        :raises InstanceNotFound: when it is in neither.
        :raises StorageUnavailable: when it may be in the one that does not answer.
        """
        trouble: StorageUnavailable | None = None
        for place in self:
            try:
                return place, place.get(instance_id)
            except InstanceNotFound:
                continue
            except StorageUnavailable as error:
                trouble = error
        raise trouble or InstanceNotFound(instance_id)

    def depths(self) -> list[tuple[Depths, int]]:
        """How much there is in each, and the time there (ms). A spool that does not answer holds up nobody here; its
        own check tells of it.

        :raises StorageUnavailable: of the storage.
        """
        return [(self.storage.depths(), self.storage.now()), *self.depths_here()]

    def depths_here(self) -> list[tuple[Depths, int]]:
        """The same of the spool alone, if there is one that answers."""
        found = []
        for place in self:
            if place is not self.storage:
                with suppress(StorageUnavailable):
                    found.append((place.depths(), place.now()))
        return found
