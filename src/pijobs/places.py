"""Where the instances of a queue are: in its storage, and in the spool of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pijobs.errors import InstanceNotFound, StorageUnavailable
from pijobs.storage.contract import Depths, Record, Storage


@dataclass(frozen=True)
class Places:
    """The storage, and the spool where there is one.

    :param path: file of the spool; None: it is no file.
    """

    storage: Storage
    spool: Storage | None = None
    path: str | Path | None = None

    def __iter__(self) -> Iterator[Storage]:
        yield self.storage
        # A look must not make the file: it would belong to whoever looked.
        if self.spool is not None and (self.path is None or Path(self.path).exists()):
            yield self.spool

    def find(self, instance_id: str) -> tuple[Storage, Record]:
        """Where the instance is, and its record.

        :raises InstanceNotFound: when it is in neither.
        :raises StorageUnavailable: when it may be in the one that does not answer.
        """
        trouble: InstanceNotFound | StorageUnavailable = InstanceNotFound(instance_id)
        for place in self:
            try:
                return place, place.get(instance_id)
            except InstanceNotFound:
                continue
            except StorageUnavailable as error:
                trouble = error
        raise trouble

    def depths(self) -> list[tuple[Depths, int]]:
        """How much there is in each, and the time there (ms). A spool that does not answer holds up nobody here; its
        own check tells of it.

        :raises StorageUnavailable: of the storage.
        """
        found = [(self.storage.depths(), self.storage.now())]
        for place in self:
            if place is not self.storage:
                try:
                    found.append((place.depths(), place.now()))
                except StorageUnavailable:
                    continue
        return found
