"""``pijobs status --watch``, and the events that it shows."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from pijobs.cli.watch import watch
from pijobs.factory import build
from pijobs.jobs import State
from pijobs.observe.events import events
from pijobs.request.queue import Queue
from pijobs.storage.values import End, NewInstance

SETTINGS: dict[str, Any] = {
    "SECRET_KEY": "x" * 32, "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_URL": "memory://",
    "PI_JOB_QUEUE_PLUGINS": (),
}  # fmt: skip


@pytest.fixture
def queue() -> Queue:
    queue = build(SETTINGS).queue
    assert queue.storage is not None
    new = NewInstance("abcdef0123", "mail.send", b"envelope", b"body", "mail.send", created=queue.storage.now())
    entry = {"at": new.created, "event": "attempt", "attempt": 1, "started": new.created, "outcome": "dead",
             "reason": "550 no", "worker": "jobs1 pid 7"}  # fmt: skip
    queue.storage.record_end(new, End(new.id, "", State.DEAD, reason="550 no", entry=json.dumps(entry)))
    return queue


def test_the_terminal_shows_states_checks_and_events(queue: Queue) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    watch(queue, 0.0, rounds=2, console=console)
    shown = console.export_text()
    assert "no live worker" in shown and "mail.send" in shown and "550 no" in shown and "abcdef01" in shown


def test_events_are_told_by_worker_the_newest_first(queue: Queue) -> None:
    places = list(queue.places)
    found = events(queue, limit=10, places=places)
    assert {event["event"] for event, _row in found} == {"attempt", "enqueued"}
    (only,) = events(queue, worker="jobs1 pid 7", limit=10, places=places)
    assert only[0]["reason"] == "550 no"
    assert events(queue, worker="jobs2 pid 7", limit=10, places=places) == []
