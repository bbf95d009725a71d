"""New instances, and a worker as small as the contract allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import msgspec
from services import wait_until

from pijobs.errors import StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.sessions import Beat, SessionInfo
from pijobs.storage.values import End, Ended, Lease, NewInstance, Step, Stored

#: Milliseconds that no test lives to see the end of.
LONG = 600_000


def new_instance(**changes: Any) -> NewInstance:
    """An instance of the job ``test.job``, with an id of its own."""
    plain = NewInstance(
        id=uuid4().hex, name="test.job", envelope=b"envelope\x00\xff", body=b"body\x00\xff", group="test.job"
    )
    return msgspec.structs.replace(plain, **changes)


def enqueue(storage: Storage, **changes: Any) -> str:
    """Store a new instance; returns its id."""
    return store(storage, **changes).id


def store(storage: Storage, **changes: Any) -> Stored:
    """Store a new instance; ``on_conflict`` and ``worker_within`` are options of the enqueue."""
    options = {name: changes.pop(name) for name in ("on_conflict", "worker_within") if name in changes}
    return storage.enqueue(new_instance(**changes), timeout=5, **options)


def connected(storage: Storage) -> Storage:
    """The storage, once it answers: on a busy machine a first connection can take longer than an operation may."""

    def answers() -> bool:
        try:
            storage.ping()
        except StorageUnavailable:
            return False
        return True

    wait_until(answers, what="the storage's answer")
    return storage


class Worker:
    """One session."""

    def __init__(self, storage: Storage, advance: Callable[[int], None], *, lease: int = LONG, **info: Any) -> None:
        self.storage = connected(storage)
        self._advance = advance
        plain = SessionInfo(id=uuid4().hex, host="host.example", pid=4711, started=storage.now(), version="1.0")
        self.info = replace(plain, **info)
        self.session = self.info.id
        storage.open_session(self.info, lease=lease)

    def step(self, *ends: End, want: int = 0, floor: int | None = None) -> Step:
        return self.storage.step(self.session, ends, want=want, floor=floor)

    def take(self, want: int = 100, *, floor: int | None = None) -> list[Lease]:
        """Lease what there is."""
        return self.step(want=want, floor=floor).leases

    def take_ids(self, want: int = 100, *, floor: int | None = None) -> list[str]:
        return [lease.id for lease in self.take(want, floor=floor)]

    def take_one(self) -> Lease:
        (lease,) = self.take(1)
        return lease

    def end(self, lease: Lease, state: State, **changes: Any) -> Step:
        """End one lease, which must still be held."""
        step = self.step(End(lease.id, lease.token, state, **changes))
        assert step.lost == []
        return step

    def run(self, instance_id: str, state: State, **changes: Any) -> None:
        """Take the one instance that can be taken, and end it."""
        lease = self.take_one()
        assert lease.id == instance_id
        self.end(lease, state, **changes)

    def beat(
        self, *, lease: int = LONG, abandoned: Sequence[Lease] = (), unknown: Sequence[tuple[str, str]] = ()
    ) -> Beat:
        pairs = [(one.id, one.token) for one in abandoned]
        return self.storage.beat(self.session, lease=lease, abandoned=pairs, unknown=unknown)

    def keep_house(self) -> list[Ended]:
        """Beat until there is nothing to do: a slow storage does it in several beats."""
        ended: list[Ended] = []

        def is_done() -> bool:
            ended.extend(self.beat().ended)
            return self.storage.depths().backlog == 0

        wait_until(is_done, what="the end of housekeeping")
        return ended

    def fall_silent(self) -> None:
        """Let the lease of the session run out."""
        self.beat(lease=1)
        self._advance(2)
