"""The places of a queue's instances: its storage, and the spool of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pijobs.base.told import Told
from pijobs.errors import Damaged, InstanceNotFound, StateConflict, StorageUnavailable
from pijobs.jobs import State
from pijobs.payload.codec import Codec
from pijobs.storage.contract import Storage
from pijobs.storage.records import Depths, Record

#: Shown if only the spool was read.
ONLY_HERE = Told("only the spool of this machine is shown")


@dataclass(frozen=True)
class Places:
    """The storage, and the spool if there is one.

    :param path: file of the spool; None: it is not a file.
    """

    storage: Storage
    spool: Storage | None = None
    path: str | Path | None = None
    #: The outbox, for calls that are part of transactions.
    outbox: Storage | None = None

    def __iter__(self) -> Iterator[Storage]:
        yield self.storage
        # Reading must not create the file: it would belong to the user who reads.
        if self.spool is not None and (self.path is None or Path(self.path).exists()):
            yield self.spool
        if self.outbox is not None:
            yield self.outbox

    def within_reach(self) -> tuple[list[Storage], str | None]:
        """The storages to read now, and a message if the storage does not answer. Then only the spool of this machine
        is read.

        :raises StorageUnavailable: the storage does not answer, and there is no spool.
        """
        try:
            self.storage.ping()
        except StorageUnavailable as error:
            if rest := [place for place in self if place is not self.storage]:
                return rest, Told(
                    "the storage {what}: {error}; {then}", what=Told(error.what), error=error, then=ONLY_HERE
                )
            raise
        return [*self], None

    def find(self, instance_id: str) -> tuple[Storage, Record]:
        """The storage of the instance, and its record.

        :raises InstanceNotFound: it is in neither.
        :raises StorageUnavailable: it may be in the one that does not answer.
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
        """The counts of each place, and the time there (ms). A spool that does not answer is left out; its own check
        reports it.

        :raises StorageUnavailable: the storage does not answer.
        """
        return [(self.storage.depths(), self.storage.now()), *self.depths_here()]

    def depths_here(self) -> list[tuple[Depths, int]]:
        """The same for the spool alone, if there is one and it answers."""
        found = []
        for place in self:
            if place is not self.storage:
                with suppress(StorageUnavailable):
                    found.append((place.depths(), place.now()))
        return found

    def result(self, instance_id: str, codec: Codec) -> Any:
        """What the job of an instance returned.

        :raises StateConflict: it has no result, or none yet.
        """
        storage, record = self.find(instance_id)
        body = storage.body(instance_id) if record.state is State.DONE else None
        if body is None:
            why = "kept no result; give its job keep_result=…" if record.state is State.DONE else "has no result yet"
            raise StateConflict(f"instance {instance_id} is {record.state} and {why}")
        call = codec.decode(record.envelope, body)
        if call.envelope is None or call.envelope.id != instance_id:
            raise Damaged("damaged: envelope and record differ")
        return call.args[0]
