"""Each arrow of the state diagram, played on a storage and in memory, leaves the same record.

The arrows are written in Python for memory, in Python for SQL, and in Lua for Redis; here they are held to each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from pijobs.jobs import WAITING, State
from pijobs.storage.contract import Storage
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.records import Record
from pijobs.storage.values import End
from pijobs.testing.clock import ManualClock

from .conftest import Advance
from .workers import Worker, enqueue, new_instance

ENTRY = json.dumps({"event": "attempt", "outcome": "failed"})


class Place:
    """A storage with a worker, and a way to let time pass."""

    def __init__(self, storage: Storage, advance: Advance) -> None:
        self.storage, self.advance = storage, advance
        self.worker = Worker(storage, advance)

    def crash(self, *, times: int = 1) -> None:
        """Let the worker die that runs what waits."""
        for _ in range(times):
            worker = Worker(self.storage, self.advance)
            worker.take()
            self.storage.close_session(worker.session, crashed=True)

    def dead(self, **changes: Any) -> str:
        one = enqueue(self.storage, **changes)
        self.worker.run(one, State.DEAD, reason="refused", error="FailJob", entry=ENTRY)
        return one


Play = Callable[[Place], Iterable[str]]
PLAYS: dict[str, Play] = {}


def arrow(play: Play) -> Play:
    """A play: it returns the ids whose records are compared."""
    PLAYS[play.__name__] = play
    return play


@arrow
def new_queued(at: Place) -> list[str]:
    return [enqueue(at.storage, label="to a***", priority=3)]


@arrow
def new_scheduled(at: Place) -> list[str]:
    return [enqueue(at.storage, due=at.storage.now() + 60_000, deadline=at.storage.now() + 90_000)]


@arrow
def scheduled_running(at: Place) -> list[str]:
    one = enqueue(at.storage, due=at.storage.now() + 20)
    at.advance(30)
    at.worker.take_one()
    return [one]


@arrow
def queued_running(at: Place) -> list[str]:
    one = enqueue(at.storage, label="to a***")
    at.worker.take_one()
    return [one]


@arrow
def running_done(at: Place) -> list[str]:
    one = enqueue(at.storage, label="to a***")
    at.worker.run(one, State.DONE, entry=ENTRY)
    return [one]


@arrow
def running_dead(at: Place) -> list[str]:
    return [at.dead(label="to a***")]


@arrow
def running_expired(at: Place) -> list[str]:
    one = enqueue(at.storage)
    at.worker.run(one, State.EXPIRED, counted=False, reason="too late")
    return [one]


@arrow
def running_scheduled(at: Place) -> list[str]:
    one = enqueue(at.storage)
    due = at.storage.now() + 60_000
    at.worker.run(one, State.SCHEDULED, due=due, reason="try later", error="RetryJob", entry=ENTRY)
    return [one]


@arrow
def running_scheduled_uncounted(at: Place) -> list[str]:
    one = enqueue(at.storage)
    at.worker.run(one, State.SCHEDULED, counted=False, due=at.storage.now() + 60_000, reason="unknown key")
    return [one]


@arrow
def running_given_back(at: Place) -> list[str]:
    one = enqueue(at.storage)
    at.worker.run(one, State.QUEUED, counted=False, reason="the worker stops")
    return [one]


@arrow
def running_deferred(at: Place) -> list[str]:
    one = enqueue(at.storage)
    at.worker.run(one, State.QUEUED, counted=False, due=at.storage.now() + 60_000, reason="at its limit")
    return [one]


@arrow
def running_with_other_arguments(at: Place) -> list[str]:
    one = enqueue(at.storage)
    changes: dict[str, Any] = {"body": b"other", "envelope": b"other envelope"}
    at.worker.run(one, State.SCHEDULED, due=at.storage.now() + 60_000, **changes)
    return [one]


@arrow
def running_session_closed(at: Place) -> list[str]:
    one, worker = enqueue(at.storage), Worker(at.storage, at.advance)
    worker.take_one()
    at.storage.close_session(worker.session)
    return [one]


@arrow
def running_crashed(at: Place) -> list[str]:
    one = enqueue(at.storage)
    at.crash()
    return [one]


@arrow
def running_crashed_beside_another(at: Place) -> list[str]:
    both = [enqueue(at.storage), enqueue(at.storage)]
    at.crash(times=3)
    return both


@arrow
def running_crashed_alone_three_times(at: Place) -> list[str]:
    one = enqueue(at.storage, label="to a***")
    at.crash(times=3)
    return [one]


@arrow
def running_crashed_past_its_deadline(at: Place) -> list[str]:
    one, worker = enqueue(at.storage, deadline=at.storage.now() + 1500), Worker(at.storage, at.advance)
    worker.take_one()
    at.advance(1600)
    at.storage.close_session(worker.session, crashed=True)
    return [one]


@arrow
def running_abandoned(at: Place) -> list[str]:
    one = enqueue(at.storage)
    at.worker.beat(abandoned=[at.worker.take_one()])
    return [one]


@arrow
def running_unknown_to_its_worker(at: Place) -> list[str]:
    one = enqueue(at.storage)
    lease = at.worker.take_one()
    at.worker.beat(unknown=[(lease.id, lease.token)])
    return [one]


@arrow
def waiting_expired(at: Place) -> list[str]:
    soon = at.storage.now() + 20
    both = [enqueue(at.storage, deadline=soon), enqueue(at.storage, due=soon + 60_000, deadline=soon)]
    at.advance(30)
    at.worker.keep_house()
    return both


@arrow
def waiting_cancelled(at: Place) -> list[str]:
    both = [enqueue(at.storage), enqueue(at.storage, due=at.storage.now() + 60_000)]
    for one in both:
        at.storage.cancel(one, reason="by an operator")
    return both


@arrow
def waiting_superseded(at: Place) -> list[str]:
    return [enqueue(at.storage, key="k", created=at.storage.now()) for _ in range(2)]


@arrow
def waiting_kept(at: Place) -> list[str]:
    return list(dict.fromkeys(enqueue(at.storage, key="k", on_conflict="keep") for _ in range(2)))


@arrow
def waiting_makes_room(at: Place) -> list[str]:
    one = enqueue(at.storage, priority=-5)
    assert at.storage.make_room("test.job", priority=0, reason="too many wait") == one
    return [one]


@arrow
def running_comes_back_behind_a_newer_one(at: Place) -> list[str]:
    old = enqueue(at.storage, key="k", created=at.storage.now() - 1000)
    lease = at.worker.take_one()
    new = enqueue(at.storage, key="k", created=at.storage.now())
    at.worker.end(lease, State.SCHEDULED, due=at.storage.now() + 60_000, reason="try later")
    return [old, new]


@arrow
def running_comes_back_behind_a_newer_one_that_ended(at: Place) -> list[str]:
    old = enqueue(at.storage, key="k", created=at.storage.now() - 1000)
    lease = at.worker.take_one()
    new = enqueue(at.storage, key="k", created=at.storage.now())
    at.worker.run(new, State.DONE)
    at.worker.end(lease, State.SCHEDULED, due=at.storage.now() + 60_000, reason="try later")
    return [old, new]


@arrow
def dead_retried(at: Place) -> list[str]:
    one = at.dead()
    at.storage.retry(one)
    return [one]


@arrow
def dead_retried_behind_a_newer_one(at: Place) -> list[str]:
    old = at.dead(key="k", created=at.storage.now() - 1000)
    new = enqueue(at.storage, key="k", created=at.storage.now())
    at.storage.retry(old)
    return [old, new]


@arrow
def ended_without_a_lease(at: Place) -> list[str]:
    new = new_instance(label="to a***")
    end = End(new.id, "", State.DEAD, reason="in the request", error="FailJob", entry=ENTRY)
    assert at.storage.record_end(new, end, timeout=5)
    return [new.id]


def shape(record: Record, now: int) -> dict[str, Any]:
    """All of a record but ids and moments: of a moment, whether it is there."""
    words = str(record.reason).split()
    return {
        "state": record.state,
        "attempts": record.attempts,
        "crashes": record.crashes,
        "priority": record.priority,
        "reason": " ".join("…" if len(word.strip("()")) == 32 else word for word in words),
        "error": record.error,
        "label": record.label,
        "has_body": record.has_body,
        "envelope": record.envelope,
        "history": [_event(json.loads(line)) for line in record.history],
        "times": [moment is not None for moment in (record.started, record.ended, record.deadline, record.session)],
        "waits long": record.state in WAITING and record.due - now > 30_000,
    }


def _event(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in ("at", "session")}


@pytest.mark.parametrize("name", PLAYS)
def test_it_leaves_the_record_that_memory_leaves(name: str, storage: Storage, advance: Advance) -> None:
    clock = ManualClock()
    memory = Place(MemoryStorage(clock=clock), lambda ms: clock.advance(ms / 1000))
    assert records(PLAYS[name], Place(storage, advance)) == records(PLAYS[name], memory)


def records(play: Play, at: Place) -> list[dict[str, Any]]:
    return [shape(at.storage.get(one), at.storage.now()) for one in play(at)]
