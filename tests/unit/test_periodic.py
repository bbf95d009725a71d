"""Due times of periodic jobs: exactly once, in the job's time zone, whatever the clock does."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
from costs import costs_little

from pijobs import Job, State, crontab
from pijobs.observe.schedule import skip
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.queue import Queue
from pijobs.settings import Settings
from pijobs.storage.memory import MemoryStorage
from pijobs.testing.clock import ManualClock
from pijobs.worker import periodic
from pijobs.worker.periodic import Periodic, newest_due

BERLIN = ZoneInfo("Europe/Berlin")
HOURLY, DAILY, EVERY_MINUTE = crontab(minute="0"), crontab(minute="30", hour="2"), crontab()
MINUTE = 60_000


def ms(text: str, zone: dt.tzinfo = dt.timezone.utc, fold: int = 0) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp() * 1000)


def job(schedule: Any = HOURLY, missed: Literal["once", "skip"] = "once", timezone: str = "UTC") -> Job:
    return Job("tidy.up", lambda: None, schedule=schedule, missed=missed, timezone=timezone)


# -- one question ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missed", ["once", "skip"])
def test_at_a_matching_minute_it_is_due_for_the_whole_minute(missed: Literal["once", "skip"]) -> None:
    for second in ("00", "01", "59"):
        assert newest_due(job(missed=missed), ms("2026-05-01T09:00"), ms(f"2026-05-01T10:00:{second}")) == ms(
            "2026-05-01T10:00"
        )


def test_a_due_time_that_was_taken_is_not_due_again() -> None:
    assert newest_due(job(), ms("2026-05-01T10:00"), ms("2026-05-01T10:00:30")) is None
    assert newest_due(job(), ms("2026-05-01T10:00"), ms("2026-05-01T10:59:59")) is None


def test_of_what_was_missed_the_newest_is_made_good_once() -> None:
    assert newest_due(job(), ms("2026-05-01T03:00"), ms("2026-05-01T10:45")) == ms("2026-05-01T10:00")


def test_what_was_missed_can_be_skipped() -> None:
    skip = job(missed="skip")
    assert newest_due(skip, ms("2026-05-01T03:00"), ms("2026-05-01T10:45")) is None
    assert newest_due(skip, ms("2026-05-01T03:00"), ms("2026-05-01T11:00")) == ms("2026-05-01T11:00")


def test_a_worker_that_comes_a_little_late_has_missed_nothing() -> None:
    skip = job(missed="skip")
    assert newest_due(skip, ms("2026-05-01T09:00"), ms("2026-05-01T10:02:59")) == ms("2026-05-01T10:00")
    assert newest_due(skip, ms("2026-05-01T09:00"), ms("2026-05-01T10:03")) is None


def test_a_job_that_never_ran_has_missed_nothing() -> None:
    assert newest_due(job(), None, ms("2026-05-01T10:01")) is None
    assert newest_due(job(), None, ms("2026-05-01T10:00:30")) == ms("2026-05-01T10:00")


def test_what_was_missed_too_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "_LOOK_BACK", 60)
    daily = job(DAILY)
    assert newest_due(daily, ms("2020-01-01T00:00"), ms("2026-05-01T03:30")) == ms("2026-05-01T02:30")
    assert newest_due(daily, ms("2020-01-01T00:00"), ms("2026-05-01T03:31")) is None


def test_a_schedule_is_read_in_the_job_s_zone() -> None:
    daily = job(DAILY, timezone="Europe/Berlin")
    summer, winter = ms("2026-07-01T00:30"), ms("2026-12-01T01:30")
    assert newest_due(daily, summer - MINUTE, summer) == summer == ms("2026-07-01T02:30", BERLIN)
    assert newest_due(daily, winter - MINUTE, winter) == winter == ms("2026-12-01T02:30", BERLIN)
    assert newest_due(job(DAILY), summer - MINUTE, summer) is None


def due_times(schedule: Job, start: int, end: int) -> list[int]:
    """All due times that a worker takes that asks in every minute."""
    asked = (newest_due(schedule, now - MINUTE, now) for now in range(start, end, MINUTE))
    return [due for due in asked if due is not None]


def test_a_time_that_the_clocks_leave_out_in_spring_comes_an_hour_later() -> None:
    daily = job(DAILY, timezone="Europe/Berlin")
    start, end = ms("2026-03-28T12:00", BERLIN), ms("2026-03-30T12:00", BERLIN)
    assert due_times(daily, start, end) == [ms("2026-03-29T03:30", BERLIN), ms("2026-03-30T02:30", BERLIN)]


@pytest.mark.parametrize("minute", ["0", "*/5", "*"])
def test_what_comes_in_each_hour_does_not_come_twice_after_a_time_that_is_left_out(minute: str) -> None:
    often = job(crontab(minute=minute), timezone="Europe/Berlin")
    found = due_times(often, ms("2026-03-29T00:00"), ms("2026-03-29T03:00"))
    assert len(found) == len(set(found)) == {"0": 3, "*/5": 36, "*": 180}[minute]


def test_an_hourly_job_runs_each_real_hour_also_when_the_clocks_change() -> None:
    hourly = job(HOURLY, timezone="Europe/Berlin")
    for day in ("2026-03-29", "2026-10-25"):
        start = ms(f"{day}T00:00", BERLIN)
        assert due_times(hourly, start, start + 6 * 60 * MINUTE) == [start + n * 60 * MINUTE for n in range(6)]


def test_in_the_hour_that_the_clocks_repeat_a_time_comes_once() -> None:
    daily = job(DAILY, timezone="Europe/Berlin")
    start, end = ms("2026-10-25T00:00", BERLIN), ms("2026-10-25T12:00", BERLIN)
    assert due_times(daily, start, end) == [ms("2026-10-25T02:30", BERLIN, fold=0)]
    assert newest_due(daily, start, end) == ms("2026-10-25T02:30", BERLIN, fold=0)


def test_a_far_off_schedule_costs_nothing_at_the_start() -> None:
    asked = 0
    new_year = crontab(minute="0", hour="0", day="1", month="1")

    def counted(moment: dt.datetime) -> bool:
        nonlocal asked
        asked += 1
        return bool(new_year(moment))

    now = ms("2026-12-31T12:00")
    never = crontab(day="29", month="2", day_of_week="1")
    assert newest_due(job(new_year), ms("2025-06-01T00:00"), now) == ms("2026-01-01T00:00")
    assert newest_due(job(never), ms("2026-01-01T00:00"), now) is None
    assert costs_little(lambda: newest_due(job(new_year), ms("2025-06-01T00:00"), now))
    assert costs_little(lambda: newest_due(job(never), ms("2026-01-01T00:00"), now))
    # Of another function nothing is known: it is asked of each minute of a week.
    assert newest_due(job(counted), ms("2025-06-01T00:00"), now) is None
    assert asked <= 7 * 24 * 60 + 1


@pytest.mark.parametrize("days", [{"day": "30", "month": "2"}, {"day": "31", "month": "4,6,9,11"}])
def test_a_schedule_that_never_comes_is_refused(days: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="schedule must match some time"):
        job(crontab(minute="0", hour="3", **days))
    job(crontab(minute="0", hour="3", day="29", month="2"))


def test_a_due_time_that_was_taken_by_a_wrong_clock_silences_nothing() -> None:
    now = ms("2026-05-01T10:00")
    assert newest_due(job(), now + 365 * 24 * 60 * MINUTE, now) == now
    assert newest_due(job(), now + 60 * MINUTE, now) is None


# -- many workers and their clocks -----------------------------------------------------------------------------------


class Site:
    """Periodic jobs on a memory storage, and the clock of that storage."""

    def __init__(self, memory: MemoryStorage, clock: ManualClock, settings: Settings) -> None:
        self.memory, self.clock, self.settings = memory, clock, settings

    def worker(self, *jobs: Job) -> Periodic:
        return Periodic(Queue(self.settings, Registry.of(jobs), Plugins([]), storage=self.memory))

    @property
    def due(self) -> list[str]:
        """The ids of what was enqueued: job and due time."""
        return sorted(record.id for record in self.memory.page(State.QUEUED, limit=1000).records)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(ms("2026-05-01T09:59:30") / 1000)


@pytest.fixture
def site(memory: MemoryStorage, clock: ManualClock, core_settings: Settings) -> Site:
    return Site(memory, clock, core_settings)


def at(text: str, name: str = "tidy.up") -> str:
    return f"{name}@{ms(text)}"


def test_each_due_time_is_enqueued_once_over_all_workers(site: Site) -> None:
    workers = [site.worker(job()) for _ in range(3)]
    for _ in range(300):
        for worker in workers:
            worker.enqueue_due()
        site.clock.advance(30)
    assert site.due == [at("2026-05-01T10:00"), at("2026-05-01T11:00"), at("2026-05-01T12:00")]


def test_the_log_tells_a_skipped_time_as_skipped(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    worker = site.worker(job())
    skip(worker._queue, "tidy.up", by="somebody")
    site.clock.advance(30)
    with caplog.at_level("INFO", "pijobs.worker.periodic"):
        worker.enqueue_due()
    assert "periodic job tidy.up: skipped at 2026-05-01 10:00:00+00:00" in caplog.text


def test_what_was_missed_while_no_worker_ran_is_made_good_once(site: Site) -> None:
    site.clock.advance(30)
    site.worker(job(), Job("tidy.skip", print, schedule=HOURLY, missed="skip")).enqueue_due()
    site.clock.advance(5.5 * 3600)
    worker = site.worker(job(), Job("tidy.skip", print, schedule=HOURLY, missed="skip"))
    worker.enqueue_due()
    worker.enqueue_due()
    assert site.due == [at("2026-05-01T10:00", "tidy.skip"), at("2026-05-01T10:00"), at("2026-05-01T15:00")]


def test_a_minute_that_the_worker_slept_through_is_not_missed_by_a_new_job(site: Site) -> None:
    worker = site.worker(job())
    worker.enqueue_due()
    site.clock.advance(100)  # 10:01:10: the whole minute of 10:00 is over
    worker.enqueue_due()
    assert site.due == [at("2026-05-01T10:00")]


def test_a_clock_that_jumps_back_runs_nothing_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = site.worker(job(EVERY_MINUTE))
    for _ in range(10):
        worker.enqueue_due()
        site.clock.advance(60)
    before = site.due
    monkeypatch.setattr(site.clock, "_start", site.clock._start - 600)
    for _ in range(9):
        worker.enqueue_due()
        site.clock.advance(60)
    assert site.due == before
    for _ in range(3):
        site.clock.advance(60)
        worker.enqueue_due()
    assert len(site.due) > len(before) and len(set(site.due)) == len(site.due)


def test_a_clock_that_jumps_forward_makes_good_once(site: Site) -> None:
    worker = site.worker(job())
    site.clock.advance(30)
    worker.enqueue_due()
    site.clock.advance(86_400)
    worker.enqueue_due()
    assert site.due == [at("2026-05-01T10:00"), at("2026-05-02T10:00")]


def test_a_schedule_that_fails_does_not_stop_the_others(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def fails(moment: dt.datetime) -> bool:
        raise ValueError("no such day")

    site.clock.advance(30)
    site.worker(Job("a.fails", print, schedule=fails), job()).enqueue_due()
    assert site.due == [at("2026-05-01T10:00")]
    assert "periodic job a.fails: its schedule failed: ValueError: no such day" in caplog.text


def test_a_rare_job_costs_next_to_nothing_per_minute(site: Site) -> None:
    asked: list[dt.datetime] = []

    def monthly(moment: dt.datetime) -> bool:
        asked.append(moment)
        return (moment.day, moment.hour, moment.minute) == (25, 0, 0)

    site.memory._periodic["tidy.up"] = ms("2026-04-25T00:00")
    worker = site.worker(job(monthly))
    worker.enqueue_due()
    asked.clear()
    for _ in range(20):
        site.clock.advance(60)
        worker.enqueue_due()
    assert len(asked) == 20


def test_an_instance_of_a_periodic_job_has_the_options_of_the_job(site: Site) -> None:
    site.clock.advance(30)
    site.worker(Job("tidy.up", lambda: None, schedule=HOURLY, expires=60, priority=-5)).enqueue_due()
    record = site.memory.get(at("2026-05-01T10:00"))
    assert (record.priority, record.deadline) == (-5, record.created + 60_000) and record.has_body
