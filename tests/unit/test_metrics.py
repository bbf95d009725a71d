"""What a process counts, and how it gets to the totals of all."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from services import wait_until

from pijobs.errors import StorageUnavailable
from pijobs.metrics import counting as module
from pijobs.metrics.counting import LONGEST_VALUE, MOST_LABELS, MOST_SERIES, Metrics
from pijobs.metrics.definitions import BOUNDS, series_of, total_name
from pijobs.storage.memory import MemoryStorage

Totals = dict[tuple[str, ...], float]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def told(metrics: Metrics) -> Totals:
    """What a flush tells the storage: by name and the values of the labels."""
    totals: dict[str, float] = {}
    metrics.flush(totals.update)
    return by_values(totals)


def by_values(totals: Mapping[str, float]) -> Totals:
    series = {series_of(total): value for total, value in totals.items()}
    return {(name, *(value for _, value in labels)): count for (name, labels), count in series.items()}


def attempt(metrics: Metrics, group: str = "smtp:main", **changes: Any) -> None:
    values = {"outcome": "done", "waited": 0.2, "took": 0.3, "since_enqueue": 0.6, **changes}
    metrics.attempt("mail.send", group, **values)


def unavailable(totals: Mapping[str, float]) -> None:
    raise StorageUnavailable("the cable is pulled")


def test_an_attempt_counts_once_in_each_histogram(metrics: Metrics) -> None:
    attempt(metrics)
    assert told(metrics) == {
        ("pijobs_time_to_start_seconds", "mail.send", "smtp:main", "0.25"): 1,
        ("pijobs_time_to_start_seconds_sum", "mail.send", "smtp:main"): 0.2,
        ("pijobs_run_seconds", "mail.send", "smtp:main", "0.5"): 1,
        ("pijobs_run_seconds_sum", "mail.send", "smtp:main"): 0.3,
        ("pijobs_enqueue_to_done_seconds", "mail.send", "smtp:main", "1"): 1,
        ("pijobs_enqueue_to_done_seconds_sum", "mail.send", "smtp:main"): 0.6,
        ("pijobs_attempts_total", "mail.send", "smtp:main", "done"): 1,
    }


def test_an_attempt_that_is_not_done_has_no_time_to_done(metrics: Metrics) -> None:
    attempt(metrics, outcome="scheduled", since_enqueue=None)
    assert not [name for name, *_ in told(metrics) if name.startswith("pijobs_enqueue_to_done")]


def test_a_bound_belongs_to_its_bucket_and_what_is_longer_than_all_has_one(metrics: Metrics) -> None:
    attempt(metrics, took=BOUNDS[-1])
    attempt(metrics, took=BOUNDS[-1] + 1)
    found = told(metrics)
    assert found["pijobs_run_seconds", "mail.send", "smtp:main", "3600"] == 1
    assert found["pijobs_run_seconds", "mail.send", "smtp:main", "inf"] == 1


def test_a_clock_that_was_set_back_makes_no_sum_smaller(metrics: Metrics) -> None:
    attempt(metrics, waited=-5)
    found = told(metrics)
    assert found["pijobs_time_to_start_seconds", "mail.send", "smtp:main", "0.005"] == 1
    assert ("pijobs_time_to_start_seconds_sum", "mail.send", "smtp:main") not in found


def test_what_was_told_is_not_told_again(metrics: Metrics) -> None:
    metrics.lease_lost()
    assert told(metrics) == {("pijobs_leases_lost_total",): 1}
    assert told(metrics) == {}


def test_what_the_storage_did_not_take_is_told_with_the_rest(metrics: Metrics) -> None:
    attempt(metrics)
    with pytest.raises(StorageUnavailable):
        metrics.flush(unavailable)
    attempt(metrics)
    with pytest.raises(StorageUnavailable):
        metrics.flush(unavailable)
    assert told(metrics)["pijobs_attempts_total", "mail.send", "smtp:main", "done"] == 2


def test_many_threads_lose_nothing(metrics: Metrics) -> None:
    def count() -> None:
        for _ in range(2000):
            metrics.fallback("mail.send", "direct")

    totals: dict[str, float] = {}
    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics.flush(lambda added: totals.update({name: totals.get(name, 0) + n for name, n in added.items()}))
    for thread in threads:
        thread.join()
    left = told(metrics).get(("pijobs_fallbacks_total", "mail.send", "direct"), 0)
    assert by_values(totals).get(("pijobs_fallbacks_total", "mail.send", "direct"), 0) + left == 8000


def test_a_child_process_does_not_tell_what_its_parent_counted(metrics: Metrics) -> None:
    metrics.lease_lost()
    child = os.fork()
    if child == 0:
        metrics.crashed("a.b", "a.b")
        os._exit(0 if told(metrics) == {("pijobs_crashes_total", "a.b", "a.b"): 1} else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert told(metrics) == {("pijobs_leases_lost_total",): 1}


# -- labels ------------------------------------------------------------------------------------------------------------


def test_groups_without_end_do_not_make_series_without_end(metrics: Metrics) -> None:
    for number in range(MOST_SERIES + 5):
        attempt(metrics, group=f"host{number}")
        metrics.failed("mail.send", f"host{number}", "dead")
    found = told(metrics)
    assert found["pijobs_attempts_total", "mail.send", "other", "done"] == 5
    assert found["pijobs_failed_total", "mail.send", "other", "dead"] == 5
    assert len([name for name, *_ in found if name == "pijobs_attempts_total"]) == MOST_SERIES + 1
    attempt(metrics, group="host0")
    assert told(metrics)["pijobs_attempts_total", "mail.send", "host0", "done"] == 1


def test_no_address_and_no_number_of_a_phone_is_a_label(metrics: Metrics) -> None:
    attempt(metrics, group="alice@example.com")
    metrics.measure("a.b", "texts", 1, {"to": "+49 170 1234567"})
    shown = str(told(metrics))
    assert "alice" not in shown and "1234567" not in shown


def test_the_longest_name_fits_into_the_storage(metrics: Metrics) -> None:
    labels = {f"l{number}" + "x" * 28: "v" * 500 for number in range(MOST_LABELS)}
    metrics.measure("j" * 300 + ".b", "n" * 60, 1, labels)
    totals: dict[str, float] = {}
    metrics.flush(totals.update)
    assert [len(name) <= 512 for name in totals] == [True]
    assert LONGEST_VALUE < 500


@pytest.mark.parametrize("group", ["a\x1fb=c", "a\nb", "a=b", "größe"])
def test_a_label_can_hold_anything(metrics: Metrics, group: str) -> None:
    attempt(metrics, group=group)
    (key,) = [key for key in told(metrics) if key[0] == "pijobs_attempts_total"]
    assert len(key) == 4


def test_a_name_of_a_total_tells_its_series() -> None:
    labels = (("job", "a.b"), ("group", "x=y"))
    assert series_of(total_name("n", labels)) == ("n", labels)
    assert series_of(total_name("n", ())) == ("n", ())


# -- what jobs measure -------------------------------------------------------------------------------------------------


def test_a_job_measures_under_its_name(metrics: Metrics) -> None:
    metrics.measure("mail.send", "smtp_replies", 1, {"server": "main", "code": "2xx"})
    metrics.measure("mail.send", "smtp_replies", 2.5, {"code": "2xx", "server": "main"})
    assert told(metrics) == {("pijobs_smtp_replies_total", "mail.send", "2xx", "main"): 3.5}


def test_names_that_were_right_before_do_not_make_a_value_right(metrics: Metrics) -> None:
    metrics.measure("mail.send", "smtp_replies", 1, {"server": "main"})
    metrics.measure("mail.send", "smtp_replies", -1, {"server": "main"})
    assert told(metrics) == {("pijobs_smtp_replies_total", "mail.send", "main"): 1}


class Unwritable:
    def __str__(self) -> str:
        raise RuntimeError("the password is hunter2")


@pytest.mark.parametrize(
    ("name", "value", "labels"),
    [
        ("attempts", 1, {}),
        ("Replies", 1, {}),
        ("replies_total", 1, {}),
        ("x" * 61, 1, {}),
        ("replies", 0, {}),
        ("replies", -1, {}),
        ("replies", float("nan"), {}),
        ("replies", "1", {}),
        (None, 1, {}),
        ("replies", 1, {"job": "x"}),
        ("replies", 1, {"le": "x"}),
        ("replies", 1, dict.fromkeys(["a1", "b1", "c1", "d1"], "x")),
        ("replies", 1, {"what": Unwritable()}),
    ],
)
def test_what_cannot_be_counted_is_logged_and_harms_nobody(
    metrics: Metrics, caplog: pytest.LogCaptureFixture, name: Any, value: Any, labels: dict[str, Any]
) -> None:
    with caplog.at_level(logging.ERROR):
        metrics.measure("a.b", name, value, labels)
    assert told(metrics) == {}
    assert "job a.b" in caplog.text and "hunter2" not in caplog.text


# -- the thread of a server process ------------------------------------------------------------------------------------


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_AFTER", 0.01)


@pytest.mark.usefixtures("soon")
def test_a_thread_tells_soon_what_was_counted(metrics: Metrics) -> None:
    storage = MemoryStorage()
    for expected in (1, 2):
        metrics.fallback("a.b", "direct")
        metrics.flush_soon(storage.add_totals)
        wait_until(lambda n=expected: [*storage.totals().values()] == [n])  # type: ignore[misc]


@pytest.mark.usefixtures("soon")
def test_the_thread_leaves_to_the_next_one_what_the_storage_did_not_take(metrics: Metrics) -> None:
    storage, tried = MemoryStorage(), threading.Event()

    def away(totals: Mapping[str, float]) -> None:
        tried.set()
        raise StorageUnavailable("the cable is pulled")

    metrics.fallback("a.b", "direct")
    metrics.flush_soon(away)
    assert tried.wait(120)
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "pijobs-metrics"])
    metrics.flush_soon(storage.add_totals)
    wait_until(lambda: [*storage.totals().values()] == [1])


def test_one_thread_is_enough(metrics: Metrics) -> None:
    storage = MemoryStorage()
    before = threading.active_count()
    for _ in range(20):
        metrics.fallback("a.b", "direct")
        metrics.flush_soon(storage.add_totals)
    assert threading.active_count() <= before + 1
