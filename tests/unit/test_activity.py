"""What the last hour brought."""

from __future__ import annotations

import json
import uuid

import pytest

from pijobs.jobs import State
from pijobs.observe import activity
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End, NewInstance
from pijobs.testing.clock import ManualClock

SESSION = "session"


class Past:
    """A queue whose past is made step by step."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.storage = MemoryStorage(clock=self.clock)
        self.storage.open_session(SessionInfo(SESSION, "host", 1, self.storage.now(), "1", workers=8), lease=10**9)

    def end(
        self, state: State = State.DONE, *, took: float = 1.0, reason: str | None = None, name: str = "a.job"
    ) -> str:
        id = uuid.uuid4().hex
        new = NewInstance(id, name, b"envelope", b"body", name, created=self.storage.now())
        self.storage.enqueue(new, timeout=5)
        (lease,) = self.storage.step(SESSION, [], want=1).leases
        self.clock.advance(took)
        entry = json.dumps({"at": self.storage.now(), "event": "attempt"})
        self.storage.step(SESSION, [End(id, lease.token, state, reason=reason, entry=entry)], want=0)
        return id


@pytest.fixture
def past() -> Past:
    return Past()


def test_nothing_happened(past: Past) -> None:
    found = activity.recent(past.storage)
    assert (found["jobs"], found["failures"], found["failed"]) == ({}, [], 0)


def test_each_job_tells_when_it_was_done_last(past: Past) -> None:
    past.end(took=1.0)
    past.end(took=0.5, name="b.job")
    found = activity.recent(past.storage)["jobs"]
    assert (found["a.job"]["last_age"], found["b.job"]["last_age"]) == (0.5, 0.0)


def test_what_ended_before_the_hour_does_not_count(past: Past) -> None:
    past.end()
    past.end(State.DEAD, reason="refused")
    past.clock.advance(3601)
    found = activity.recent(past.storage)
    assert (found["jobs"], found["failures"]) == ({}, [])


def test_failures_are_counted_by_reason_whoever_the_recipient_was(past: Past) -> None:
    past.end(State.DEAD, reason="refused: a***@example.com: 550 no such user")
    newest = past.end(State.DEAD, reason="refused: b***@example.org: 550 no such user")
    past.end(State.EXPIRED, reason="too late")
    found = activity.recent(past.storage)["failures"]
    assert [(row["number"], row["state"], row["reason"]) for row in found] == [
        (2, "dead", "refused: …: 550 no such user"),
        (1, "expired", "too late"),
    ]
    assert found[0]["id"] == newest


def test_more_failures_than_are_looked_at_are_said_to_be_more(past: Past) -> None:
    for _ in range(activity.SAMPLE + 1):
        past.end(State.DEAD, took=0, reason="no")
    found = activity.recent(past.storage)
    assert (found["failed"], found["failures_cut"]) == (activity.SAMPLE, True)
