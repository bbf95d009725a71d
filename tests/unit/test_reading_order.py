"""States are read one after the other: who looks misses no instance that goes on in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pijobs.jobs import ENDED, READING_ORDER, WAITING, Job, State
from pijobs.observe import people, sealing
from pijobs.observe.newest import newest
from pijobs.observe.selection import Selection
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.queue import Queue
from pijobs.settings import CORE_SETTINGS, PREFIX, validate
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.records import Page
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End
from pijobs.testing import ManualClock


class Moving(MemoryStorage):
    """In which an instance goes on before one of the reads of a state."""

    def __init__(self) -> None:
        self._manual = ManualClock()
        super().__init__("main", clock=self._manual)
        self._lease: Any = None
        self.reads, self.before, self.next = 0, -1, ""
        self.open_session(SessionInfo("w", "host", 1, self.now(), "1"), lease=10_000_000)

    def page(self, state: State, **filters: Any) -> Page:
        if self.reads == self.before:
            self.go(self.next)
        self.reads += 1
        return super().page(state, **filters)

    def go(self, step: str) -> None:
        if step == "promote":
            self._manual.advance(60)
            self.pause()  # so that the worker does not lease it
            self.step("w", [], want=1)
        elif step == "lease":
            [self._lease] = self.step("w", [], want=1).leases
        else:
            due = self.now() + 60_000 if step == State.SCHEDULED else None
            self.step("w", [End(self._lease.id, self._lease.token, State(step), due=due)], want=0)


#: What happens before the reader comes, and what while it reads.
STEPS = {
    "scheduled, queued": (("lease", "scheduled"), "promote"),
    "queued, running": ((), "lease"),
    "running, scheduled": (("lease",), "scheduled"),
    "running, dead": (("lease",), "dead"),
    "running, done": (("lease",), "done"),
}
ALL, FORWARD = tuple(STEPS), ("scheduled, queued", "queued, running", "running, dead", "running, done")


def find(queue: Queue) -> list[str]:
    return [row["id"] for row in people.messages(queue, "alice")]


def count(queue: Queue) -> list[str]:
    assert queue.storage is not None
    return ["one"] * sealing.counted(queue.storage).total()


def list_newest(queue: Queue) -> list[str]:
    return [row["id"] for row in newest(queue, limit=10, places=list(queue.places))[0]]


def select(queue: Queue) -> list[str]:
    return [record.id for _, record in Selection(states=tuple(WAITING)).find(queue, list(queue.places))]


@pytest.mark.parametrize(
    ("look", "step"),
    [
        *((find, step) for step in ALL),
        *((count, step) for step in ALL if step != "running, done"),  # its body is gone
        *((list_newest, step) for step in FORWARD),
        (select, "scheduled, queued"),
    ],
)
def test_an_instance_that_goes_on_while_somebody_looks_is_found(
    look: Callable[[Queue], list[str]], step: str, tmp_path: Path
) -> None:
    before, then = STEPS[step]
    read = 0
    while True:
        storage = Moving()
        job = Job("mail.send", lambda user: None, subject=lambda user: user)
        settings = validate({PREFIX + "KEYS": ["key"]}, CORE_SETTINGS, directory=tmp_path)
        queue = Queue(settings, Registry.of([job]), Plugins([]), storage=storage)
        queue.enqueue("mail.send", kwargs={"user": "alice"})
        for done in before:
            storage.go(done)
        storage.reads, storage.before, storage.next = 0, read, then
        found = look(queue)
        assert len(found) == 1 or (look in (count, select) and found), f"it went on before read {read}"
        if storage.reads <= read:  # the reader was gone by then
            break
        read += 1
    assert read > 1


def test_every_state_is_read() -> None:
    assert set(READING_ORDER) == set(State)
    assert set(sealing.STATES) >= {*State} - ENDED
