"""Texts of strangers that no database takes as they are: they are escaped and cut, and never told as an outage."""

from __future__ import annotations

import json

import pytest

from pijobs.errors import InstanceNotFound, InstanceRefused
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.texts import MAX_NAME, MAX_TEXT, storable_name, storable_text

from .workers import Worker, new_instance

STRANGE = ["a\0b", "\udc80 half a pair", "x" * 5000, "\U0001f600" * 512]


def test_a_group_of_any_name_is_worked_on(storage: Storage, worker: Worker) -> None:
    for group in STRANGE:
        stored = storage.enqueue(new_instance(group=group, limit=1), timeout=5)
        lease = worker.take_one()
        assert lease.id == stored.id and 0 < len(lease.group) <= MAX_NAME
        known = storage.group(lease.group)
        assert known is not None
        assert storage.set_group(lease.group, version=known.version, limit=1, blocked_until=None, policy="{}")
        assert worker.end(lease, State.DONE).lost == []
        assert storage.page(State.DONE, group=lease.group).records[0].id == stored.id


def test_long_groups_that_differ_stay_different(storage: Storage, worker: Worker) -> None:
    for last in "ab":
        storage.enqueue(new_instance(group="g" * 1000 + last), timeout=5)
    assert len({lease.group for lease in worker.take(2)}) == 2


def test_an_attempt_ends_whatever_its_error_says(storage: Storage, worker: Worker) -> None:
    for text in STRANGE:
        stored = storage.enqueue(new_instance(), timeout=5)
        entry = json.dumps({"at": 1, "reason": text}, ensure_ascii=False)
        worker.end(worker.take_one(), State.DEAD, reason=text, error=text, entry=entry)
        record = storage.get(stored.id)
        assert record.state is State.DEAD and record.reason and len(record.reason) <= MAX_TEXT
        assert record.error and len(record.error) <= 255
        assert [json.loads(line)["at"] for line in record.history] == [1]


def test_events_are_counted_by_any_key(storage: Storage) -> None:
    for key in STRANGE:
        assert storage.count(key, limit=1, per=60_000) is None
        assert storage.count(key, limit=1, per=60_000) is not None


def test_a_question_that_cannot_be_asked_is_no_outage(storage: Storage) -> None:
    for id in ("a\0b", "\udc80"):
        with pytest.raises((InstanceNotFound, InstanceRefused)):
            storage.get(id)
    storage.ping()
    assert storage.enqueue(new_instance(), timeout=5).fresh


def test_what_is_storable_stays_as_it_is() -> None:
    for text in ("smtp.example.org", "Zürich", "x" * MAX_NAME):
        assert storable_name(text) is text or storable_name(text) == text
        assert storable_name(storable_name(text * 9)) == storable_name(text * 9)
    assert storable_text("a\0" + "b" * 9000).startswith("a\\x00b")
