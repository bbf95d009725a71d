"""Two releases on one storage: what it tells of its protocol, and what can be sealed anew."""

from __future__ import annotations

import pytest
from services import own_database

from pijobs.errors import StorageUnavailable, StorageVersion
from pijobs.jobs import State
from pijobs.storage import protocol
from pijobs.storage.contract import Storage

from .conftest import OpenStorage, StartWorker
from .workers import Worker, connected, enqueue, new_instance

NEXT = protocol.NEWEST + 1


@pytest.fixture
def postgresql_url(postgresql_url: str) -> str:
    return own_database(postgresql_url)


@pytest.fixture
def mariadb_url(mariadb_url: str) -> str:
    return own_database(mariadb_url)


def another_process(kind: str, storage: Storage, open_storage: OpenStorage) -> Storage:
    """One that connects now. Memory has no other process, and looks each time."""
    return storage if kind == "memory" else open_storage()


def test_a_new_storage_is_for_the_release_before_as_well(storage: Storage) -> None:
    enqueue(storage)
    assert storage.protocol == protocol.FIRST == protocol.OLDEST


def test_who_connects_learns_the_protocol(kind: str, storage: Storage, open_storage: OpenStorage) -> None:
    enqueue(storage)
    storage.set_protocol(protocol.NEWEST, oldest_reader=protocol.NEWEST)
    other = another_process(kind, storage, open_storage)
    enqueue(connected(other))
    assert (storage.protocol, other.protocol) == (protocol.NEWEST, protocol.NEWEST)


def test_a_session_that_opens_learns_it_too(storage: Storage, peer: Storage, start_worker: StartWorker) -> None:
    start_worker(on=peer)
    storage.set_protocol(protocol.NEWEST, oldest_reader=protocol.OLDEST)
    start_worker(on=peer)
    assert peer.protocol == protocol.NEWEST


def test_the_next_release_may_write_what_this_one_can_read(
    kind: str, storage: Storage, open_storage: OpenStorage, start_worker: StartWorker
) -> None:
    storage.set_protocol(NEXT, oldest_reader=protocol.NEWEST)
    other = another_process(kind, storage, open_storage)
    stored = enqueue(connected(other))
    assert other.protocol == protocol.NEWEST
    assert start_worker(on=other).take_ids() == [stored]


def test_what_only_later_releases_can_read_is_away_for_this_one(
    kind: str, storage: Storage, open_storage: OpenStorage, worker: Worker
) -> None:
    storage.set_protocol(NEXT, oldest_reader=NEXT)
    other = another_process(kind, storage, open_storage)
    told = f"has protocol {NEXT}, .*this release of pijobs speaks {protocol.OLDEST} to {protocol.NEWEST}: install"
    with pytest.raises(StorageUnavailable, match=told):
        other.enqueue(new_instance(), timeout=5)
    with pytest.raises(StorageUnavailable, match=told):
        other.open_session(worker.info, lease=1000)


def test_a_session_does_not_open_where_the_protocol_was_raised(storage: Storage, worker: Worker) -> None:
    storage.set_protocol(NEXT, oldest_reader=NEXT)
    with pytest.raises(StorageVersion):
        storage.open_session(worker.info, lease=1000)


def test_what_does_not_run_can_be_sealed_anew(storage: Storage, worker: Worker) -> None:
    waiting = enqueue(storage, envelope=b"old", body=b"old body")
    assert storage.reseal(waiting, old=(b"old", b"old body"), new=(b"new", b"new body"))
    lease = worker.take_one()
    assert (lease.envelope, lease.body) == (b"new", b"new body")
    assert not storage.reseal(waiting, old=(b"new", b"new body"), new=(b"newer", b"newer body"))
    worker.end(lease, State.DEAD)
    assert storage.reseal(waiting, old=(b"new", b"new body"), new=(b"newer", b"newer body"))
    assert (storage.get(waiting).envelope, storage.body(waiting)) == (b"newer", b"newer body")


@pytest.mark.parametrize("old", [(b"other", b"old body"), (b"old", b"other")])
def test_what_has_changed_meanwhile_is_not_sealed_anew(storage: Storage, old: tuple[bytes, bytes]) -> None:
    waiting = enqueue(storage, envelope=b"old", body=b"old body")
    assert not storage.reseal(waiting, old=old, new=(b"new", b"new body"))
    assert not storage.reseal("nobody", old=old, new=(b"new", b"new body"))
    assert (storage.get(waiting).envelope, storage.body(waiting)) == (b"old", b"old body")


def test_what_has_lost_its_body_is_not_sealed_anew(storage: Storage, worker: Worker) -> None:
    ended = enqueue(storage, envelope=b"old", body=b"old body")
    worker.run(ended, State.DONE)
    assert not storage.reseal(ended, old=(b"old", b"old body"), new=(b"new", b"new body"))


def test_the_next_attempt_may_have_another_envelope(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage, envelope=b"old", body=b"old body")
    worker.run(instance, State.SCHEDULED, due=storage.now() - 1000, envelope=b"new", body=b"new body")
    lease = worker.take_one()
    assert (lease.envelope, lease.body) == (b"new", b"new body")


def test_tables_can_be_given_back_to_the_release_before(kind: str, storage: Storage, open_storage: OpenStorage) -> None:
    if not hasattr(storage, "step_down"):
        assert kind == "memory" or kind.startswith("redis")  # they have no tables
        return
    stored = enqueue(storage)
    storage.set_protocol(protocol.NEWEST, oldest_reader=protocol.NEWEST)
    storage.set_protocol(protocol.OLDEST, oldest_reader=protocol.OLDEST)
    storage.step_down()
    # And up again, by whoever uses them next.
    assert open_storage().get(stored).state is State.QUEUED
    enqueue(storage)
