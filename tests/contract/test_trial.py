"""A trial has everything done once, and leaves nothing behind."""

from __future__ import annotations

import pytest
from services import wait_until

from pijobs.errors import StorageUnfit
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.trial import JOB, SESSION, live_once

from .workers import Worker, new_instance


def test_a_storage_that_can_be_used_passes_a_trial(storage: Storage) -> None:
    storage.try_out()


def test_a_whole_life_can_be_lived(storage: Storage) -> None:
    live_once(storage)
    assert storage.sessions() == []
    assert (JOB, State.DONE) not in storage.depths().counts
    assert storage.last_periodic(JOB) is not None


def test_a_trial_is_seen_by_nobody(storage: Storage, worker: Worker) -> None:
    stored = storage.enqueue(new_instance(), timeout=5)
    storage.try_out()
    assert [lease.id for lease in worker.step(want=9).leases] == [stored.id]
    storage.try_out()
    assert [record.info.id for record in storage.sessions()] == [worker.session] != [SESSION]
    assert {name for name, _ in storage.depths().counts} == {"test.job"}
    assert storage.last_periodic(JOB) is None
    assert not storage.depths().paused and storage.totals() == {}


def test_what_answers_otherwise_than_it_must_fails(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(storage), "last_periodic", lambda self, name: None)
    with pytest.raises(StorageUnfit, match="expected in a trial that the due time of a periodic job is kept"):
        live_once(storage)


def test_trials_of_several_processes_do_not_meet(storage: Storage, peer: Storage) -> None:
    from threading import Thread

    failed: list[Exception] = []

    def tries(one: Storage) -> None:
        try:
            for _ in range(3):
                one.try_out()
        except Exception as error:
            failed.append(error)

    threads = [Thread(target=tries, args=(one,)) for one in (storage, peer, storage)]
    for thread in threads:
        thread.start()
    wait_until(lambda: not any(thread.is_alive() for thread in threads), what="the end of the trials")
    assert failed == []
