"""The queue is bypassed: what its caller can run is not stored."""

from __future__ import annotations

import pytest

from contract.workers import LONG, enqueue, new_instance
from pijobs.errors import Bypassed, KeyConflict
from pijobs.jobs import State
from pijobs.storage.contract import Storage

from .time_travel import SLACK


def test_nothing_new_of_the_group_is_stored_for_who_can_run_it(storage: Storage) -> None:
    there = new_instance(group="smtp:main")
    storage.enqueue(there, timeout=5)
    storage.bypass("smtp:main", by="root", reason="the workers hang")
    first, other, later = (
        new_instance(group="smtp:main"), new_instance(), new_instance(group="smtp:main", due=storage.now() + LONG),
    )  # fmt: skip
    batch = [(new, "replace") for new in (first, other, later, there)]
    with pytest.raises(Bypassed) as caught:
        storage.enqueue_many(batch, timeout=5, bypassable=True)  # type: ignore[arg-type]
    assert caught.value.ids == {first.id}
    with pytest.raises(Bypassed):
        storage.enqueue(first, timeout=5, bypassable=True)
    assert storage.depths().counts == {("test.job", State.QUEUED): 1}
    for new in (other, later, there):
        storage.enqueue(new, timeout=5, bypassable=True)
    storage.enqueue(first, timeout=5)  # it comes from a spool
    assert storage.depths().counts == {("test.job", State.QUEUED): 3, ("test.job", State.SCHEDULED): 1}


def test_two_with_one_key_do_not_both_happen(storage: Storage) -> None:
    first, kept, refused, newest = (new_instance(key="k") for _ in range(4))
    storage.enqueue(first, timeout=5)
    storage.bypass(reason="r")
    assert storage.enqueue(kept, timeout=5, on_conflict="keep", bypassable=True).id == first.id
    with pytest.raises(KeyConflict):
        storage.enqueue(refused, timeout=5, on_conflict="error", bypassable=True)
    assert storage.enqueue(newest, timeout=5, bypassable=True).replaced == first.id
    storage.cancel(newest.id, reason="r")
    with pytest.raises(Bypassed):
        storage.enqueue(new_instance(key="k"), timeout=5, bypassable=True)


def test_a_bypass_of_all_is_told_and_ends(storage: Storage) -> None:
    before = storage.now()
    for group in (None, "smtp:main", None):
        storage.bypass(group, by="root", reason=f"why {group}")
    found = storage.depths().bypasses
    assert {name: (one.by, one.reason) for name, one in found.items()} == {
        "": ("root", "why None"), "smtp:main": ("root", "why smtp:main"),
    }  # fmt: skip
    assert all(one.at is not None and before - SLACK <= one.at <= storage.now() + SLACK for one in found.values())
    with pytest.raises(Bypassed):
        storage.enqueue(new_instance(), timeout=5, bypassable=True)
    storage.end_bypass()
    assert storage.enqueue(new_instance(), timeout=5, bypassable=True).fresh
    storage.end_bypass("smtp:main")
    storage.end_bypass("nobody")
    assert storage.depths().bypasses == {}
    assert storage.enqueue(new_instance(group="smtp:main"), timeout=5, bypassable=True).fresh
    assert enqueue(storage)
