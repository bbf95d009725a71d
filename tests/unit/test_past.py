"""What the last hour, day and week brought, from totals of minutes and hours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pijobs.metrics.counting import Metrics
from pijobs.observe.past import past
from pijobs.storage import periods
from pijobs.storage.memory import MemoryStorage
from pijobs.testing.clock import ManualClock


class Counted:
    """A queue that counts, on a clock of its own."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clock.advance(3600 - self.clock.time() % 3600 + 1800)
        self.storage, self.metrics, self.reads = MemoryStorage(clock=self.clock), Metrics(), 0
        self._kept: dict[Any, Any] = {}
        settings = SimpleNamespace(resource=lambda key, make: self._kept.setdefault(key, make()))
        self.queue: Any = SimpleNamespace(places=SimpleNamespace(storage=self), settings=settings)

    def now(self) -> int:
        return self.storage.now()

    def totals(self, period: periods.Period) -> dict[str, float]:
        self.reads += 1
        return self.storage.totals(period)

    def did(self, *, took: float = 1.0, waited: float = 0.0, job: str = "mail.send", group: str = "smtp:main") -> None:
        self.metrics.attempt(job, group, "done", waited=waited, took=took, since_enqueue=waited + took)
        self.metrics.flush(lambda added: periods.add(self.storage, added))


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_nothing_was_done(counted: Counted) -> None:
    found = past(counted.queue, "hour")
    assert len(found["steps"]) == 60 and found["rows"] == []
    assert {(step["done"], step["start"], step["busy"]) for step in found["steps"]} == {(0, None, 0.0)}


def test_what_was_done_stands_in_its_minute_and_in_its_hour(counted: Counted) -> None:
    counted.did()
    counted.clock.advance(120)
    counted.did()
    counted.metrics.failed("mail.send", "smtp:main", "dead")
    counted.did(took=60)
    hour, day = (past(counted.queue, span)["steps"] for span in ("hour", "day"))
    assert [step["done"] for step in hour[-3:]] == [1, 0, 2]
    assert (day[-1]["done"], day[-1]["failed"], len(day)) == (3, 1, 24)
    counted.clock.advance(60)
    assert past(counted.queue, "hour")["steps"][-2]["busy"] == pytest.approx(61 / 60)


def test_a_long_attempt_makes_one_worker_busy_for_as_long_and_not_many_for_a_minute(counted: Counted) -> None:
    counted.clock.advance(30 * 60)
    counted.did(took=15 * 60)
    counted.clock.advance(60)
    busy = [step["busy"] for step in past(counted.queue, "hour")["steps"]]
    assert busy[-17:] == pytest.approx([0.0, *[1.0] * 15, 0.0])
    assert sum(busy) == pytest.approx(15)


def test_times_are_told_by_job_and_destination(counted: Counted) -> None:
    for _ in range(19):
        counted.did(took=0.3, waited=0.02)
    counted.did(took=40)
    counted.did(took=4, job="sms.send", group="sms:main")
    mail, sms = past(counted.queue, "hour")["rows"]
    assert (mail["job"], mail["group"], mail["done"], sms["done"]) == ("mail.send", "smtp:main", 20, 1)
    assert 0.25 < mail["finish"][0] < 0.5 and 0.25 < mail["finish"][1] <= 0.5
    assert 0.01 < mail["start"][0] < 0.025
    only = past(counted.queue, "hour", job="sms.send", group="sms:main")
    assert sum(step["done"] for step in only["steps"]) == 1 and len(only["rows"]) == 2


def test_a_minute_that_is_over_is_read_once(counted: Counted) -> None:
    for _ in range(2):
        counted.reads = 0
        past(counted.queue, "week")
    assert counted.reads <= 2
    counted.did()
    assert past(counted.queue, "week")["steps"][-1]["done"] == 1
