"""What the pages are made of: words, the sentence of the overview, lives, plots."""

from __future__ import annotations

from typing import Any

import pytest

from pijobs.observe.sentences import short_id
from pijobs.server.pages.formatting import after, count, duration, subject, time_of_day
from pijobs.server.pages.plots import HEIGHT, WIDTH, Plot, height_of, of_past
from pijobs.server.pages.summary import Topic, headline
from pijobs.server.pages.timeline import life

MAILS = Topic("mails", "mail.")


def answer(**changes: Any) -> dict[str, Any]:
    return {
        "storage": "redis://localhost/0", "mode": "queued", "reachable": True, "paused": False, "workers": [{}],
        "worker_seen_age": 1.0, "groups": [], "jobs": {}, "states": {"queued": 0}, **changes,
    }  # fmt: skip


def recent(*, last: float | None = None, failures: Any = (), name: str = "mail.send") -> dict[str, Any]:
    return {"jobs": {} if last is None else {name: {"last_age": last}}, "failures": list(failures)}


def failure(reason: str = "550 no", *, age: float = 5.0, name: str = "mail.send") -> dict[str, Any]:
    return {"name": name, "reason": reason, "age": age, "number": 2}


DOWN = {
    "name": "smtp:main", "failures": 2, "waiting": 3, "paused": False, "reason": "refused", "blocked_for": 4.0,
    "breaker": "open", "jobs": ["mail.send"],
}  # fmt: skip


PAUSE = {"at": "2026-11-29T12:00:00.000Z", "age": 5.0, "by": "root on db1", "reason": "moving house"}


@pytest.mark.parametrize(
    ("told", "tone", "text"),
    [
        ((answer(), recent(last=3)), "good", "Mails are going out."),
        ((answer(), recent(last=2000)), "idle", "No mails to send just now. Workers are ready."),
        ((answer(), recent(last=3, name="sms.send")), "idle", "No mails to send just now. Workers are ready."),
        ((answer(jobs={"mail.send": {"queued": 1}}), recent()), "good", "Mails are on their way."),
        ((answer(storage=None), recent()), "idle", "The queue is off; mails go out in the request."),
        (
            (answer(reachable=False, what="does not answer", reason="refused", fallback=None), recent()),
            "bad", "No mails are going out: the storage does not answer.",
        ),
        (
            (answer(reachable=False, what="does not answer", reason="refused", fallback="spool"), recent()),
            "warn", "Mails go out by the spool of this machine: the storage does not answer.",
        ),
        (
            (answer(reachable=False, what="does not answer", reason="refused", fallback="direct"), recent()),
            "warn", "Mails go out in the request: the storage does not answer.",
        ),
        ((answer(paused=True, pause=PAUSE), recent(last=3)), "warn", "No mails are going out: the queue is paused."),
        ((answer(workers=[]), recent(last=3)), "bad", "No mails are going out: there is no live worker."),
        (
            (answer(groups=[DOWN]), recent(last=3)),
            "bad", "Some mails wait: smtp:main is down.",
        ),
        ((answer(groups=[{**DOWN, "jobs": ["sms.send"]}]), recent(last=3)), "good", "Mails are going out."),
        (
            (answer(groups=[{**DOWN, "failures": 0, "paused": True, "pause": PAUSE}]), recent(last=3)),
            "warn", "Some mails wait: smtp:main is paused.",
        ),
        (
            (answer(jobs={"mail.send": {"scheduled": 2}}), recent()),
            "idle", "No mails to send just now; 2 wait for their time or next attempt.",
        ),
        ((answer(jobs={"mail.send": {"oldest_age": 61.0}}), recent(last=3)), "bad", "Mails are late."),
        ((answer(), recent(last=3, failures=[failure()])), "warn", "Mails are going out, but 2 failed lately."),
        ((answer(), recent(failures=[failure()])), "warn", "Mails are failing."),
        ((answer(), recent(last=3, failures=[failure(age=2000)])), "good", "Mails are going out."),
        ((answer(), recent(last=3, failures=[failure(name="sms.send")])), "good", "Mails are going out."),
    ],
)  # fmt: skip
def test_one_sentence_tells_whether_mails_are_going_out(told: tuple[Any, Any], tone: str, text: str) -> None:
    found = headline(MAILS, *told, 60)
    assert (found.tone, found.text) == (tone, text)


def test_a_destination_that_is_down_is_told_with_its_reason() -> None:
    found = headline(MAILS, answer(groups=[DOWN]), recent(), 60)
    assert "refused" in found.more and "3 waiting" in found.more


@pytest.mark.parametrize("told", [(answer(), recent(last=3)), (answer(), recent())])
def test_nothing_is_green_while_a_critical_check_fails(told: tuple[Any, Any]) -> None:
    calm = headline(MAILS, *told, 60)
    found = headline(MAILS, *told, 60, {"loss": "the storage was emptied"})
    assert (calm.tone in ("good", "idle"), found.tone, found.text) == (True, "warn", calm.text)
    assert found.more.startswith("But something is wrong, see below: loss.")


@pytest.mark.parametrize(
    ("fallback", "tone", "text"),
    [
        ("direct", "warn", "Mails go out in the request: the storage accepts nothing new."),
        (None, "bad", "No mails are going out: the storage accepts nothing new."),
    ],
)
def test_a_storage_that_takes_nothing_is_told_before_the_worker_that_it_hides(
    fallback: str | None, tone: str, text: str
) -> None:
    told = answer(workers=[], fallback=fallback)
    found = headline(MAILS, told, recent(last=3), 60, {"worker": "none", "storage": "a read-only replica"})
    assert (found.tone, found.text, found.more) == (tone, text, "a read-only replica")


def test_a_destination_that_is_down_or_paused_is_told_in_the_words_of_the_pages() -> None:
    down = headline(MAILS, answer(groups=[DOWN]), recent(), 60)
    assert down.more == "It failed 2 times in a row: refused. It is tried again in 4.0 s. 3 waiting."
    paused = {**DOWN, "failures": 0, "paused": True, "pause": PAUSE}
    told = headline(MAILS, answer(groups=[paused]), recent(), 60).more
    assert told.startswith('3 waiting. Paused by root on db1 at <time datetime="2026-11-29T12:00:00.000Z"')


def test_an_id_is_told_by_what_tells_it_from_others() -> None:
    assert short_id("e3ab5cc1f6a14f2a8ad0a7b35e1f4f0e") == "e3ab5cc1"
    assert short_id("report.nightly@1796070600000") == "…70600000", "all of its runs begin alike"


def test_a_label_without_a_recipient_is_told_as_it_is() -> None:
    labels = ["mail to a***@example.com and 2 more", "a letter to the king", "report", ""]
    assert [subject(label) for label in labels] == labels and subject(None) == ""


def test_the_newest_failure_is_told_with_its_reason() -> None:
    failures = [failure("an old one", age=500), failure("a new one", age=2)]
    assert headline(MAILS, answer(), recent(last=3, failures=failures), 60).more == "The newest: a new one"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0.0, "0 ms"), (0.0124, "12 ms"), (0.5, "0.50 s"), (3.14, "3.1 s"), (42, "42 s"), (119, "119 s"),
        (120, "2 min"), (3600, "1 h"), (7300, "2 h"), (86400, "1 d"), (900_000, "10 d"),
    ],
)  # fmt: skip
def test_a_duration_in_words(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_times_and_numbers_in_words() -> None:
    assert time_of_day(None) == "–"
    assert time_of_day("2026-01-02T03:04:05.678Z") == "2026-01-02 03:04:05"
    assert after("2026-01-02T03:04:05.700Z", "2026-01-02T03:04:05.200Z") == "+0.50 s"
    assert count(12345) == "12,345"


def row(state: str, **changes: Any) -> dict[str, Any]:
    return {
        "state": state, "created": "T0", "due": "T9", "started": "T1", "ended": "T2", "reason": None, "history": [],
        "waits": [], **changes,
    }  # fmt: skip


def attempt(outcome: str, **changes: Any) -> dict[str, Any]:
    return {"event": "attempt", "at": "T2", "started": "T1", "took": 1.0, "attempt": 1, "outcome": outcome, **changes}


@pytest.mark.parametrize(
    ("told", "titles"),
    [
        (row("queued"), ["Enqueued", "Waits for a worker"]),
        (row("running"), ["Enqueued", "Runs"]),
        (row("scheduled"), ["Enqueued", "Next attempt"]),
        (row("cancelled"), ["Enqueued", "Cancelled"]),
        (row("expired"), ["Enqueued", "Expired: the deadline passed"]),
        (row("done", history=[attempt("done")]), ["Enqueued", "Attempt 1: done"]),
        (row("dead", history=[attempt("dead")]), ["Enqueued", "Attempt 1: failed for good"]),
        (
            row("scheduled", history=[attempt("scheduled", counted=False)]),
            ["Enqueued", "Attempt 1 (not counted): failed; another attempt follows", "Next attempt"],
        ),
        (
            row("dead", history=[{"event": "crashed", "at": "T2"}]),
            ["Enqueued", "The worker that ran it died", "Failed for good"],
        ),
        (
            row("queued", history=[{"event": "held", "at": "T2", "reason": "no key"}]),
            ["Enqueued", "A worker could not run it and returned it", "Waits for a worker"],
        ),
        (row("queued", history=[{"event": "moved", "at": "T2"}]), ["Enqueued", "Moved", "Waits for a worker"]),
    ],
)
def test_a_life_tells_each_step(told: dict[str, Any], titles: list[str]) -> None:
    assert [step.title for step in life(told)] == titles


def test_the_reason_of_an_attempt_is_told_once() -> None:
    told = row("scheduled", reason="refused", history=[attempt("scheduled", reason="refused")])
    assert [step.reason for step in life(told)] == [None, "refused", None]


def steps(*rows: tuple[int, int]) -> list[dict[str, Any]]:
    return [
        {
            "at": "2026-01-02T03:04:00.000Z", "done": done, "failed": failed, "busy": done / 2,
            "start": None, "finish": (1.0, 2.0) if done else None,
        }
        for done, failed in rows
    ]  # fmt: skip


def plotted(*rows: tuple[int, int], workers: int = 8) -> dict[str, Plot]:
    return {plot.name: plot for plot in of_past({"steps": steps(*rows)}, workers)}


def test_the_highest_bar_fills_the_plot() -> None:
    found = plotted((0, 0), (2, 2), (1, 0))["throughput"].steps
    assert [sum(mark.height for mark in step.marks) for step in found] == [0, HEIGHT - 2, (HEIGHT - 2) / 4]
    assert found[-1].x + found[-1].width < WIDTH


def test_each_step_of_a_plot_says_what_it_is() -> None:
    found = plotted((1200, 3), (0, 0))
    assert found["throughput"].summary == "1,200 done, 3 failed"
    assert [step.text for step in found["finish"].steps] == ["median 1.0 s, 95 % below 2.0 s", "nothing"]
    assert found["busy"].summary == "at most 600.0 of 8 workers busy"
    assert found["start"].summary == "nothing"


def test_a_plot_of_nothing_is_empty() -> None:
    found = plotted((0, 0), workers=0)
    assert [step.marks for plot in found.values() for step in plot.steps] == [[], [], [], []]


def test_longer_times_stand_higher_and_all_within_the_plot() -> None:
    heights = [height_of(seconds) for seconds in (0.0, 0.1, 1, 10, 1e9)]
    assert heights == sorted(heights, reverse=True)
    assert 0 <= heights[-1] < heights[0] <= HEIGHT
