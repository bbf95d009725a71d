"""A worker process's session whose signs of life a test gives."""

from __future__ import annotations

from services import wait_until

from pijobs.errors import StorageUnavailable
from pijobs.storage.contract import Storage
from pijobs.storage.values import Lease
from pijobs.worker.session import Session, describe_process


def live_session(storage: Storage) -> Session:
    """Open, without a thread."""
    session = Session(storage, describe_process(), lease=600, flushes=False)
    session.beat()
    assert session.reachable
    return session


def leased_after_beats(session: Session) -> Lease:
    """What the session gets when it gave signs of life until there was something to get."""
    got: list[Lease] = []

    def gets() -> bool:
        session.beat()
        try:
            got.extend(session.step([], want=1).leases)
        except StorageUnavailable:
            return False
        return bool(got)

    wait_until(gets, what="a lease after the lost one")
    return got[0]
