"""Sums over all processes, for metrics."""

from __future__ import annotations

import threading

import pytest

from pijobs.storage.contract import Storage
from pijobs.storage.periods import HOUR, MINUTE, Period, Step, add
from pijobs.storage.values import LEFT_OUT

from .conftest import OpenStorage
from .workers import Worker


def test_a_new_queue_has_no_totals(storage: Storage) -> None:
    assert storage.totals() == {}


def test_totals_add_up_over_all_processes(storage: Storage, peer: Storage) -> None:
    storage.add_totals({"attempts": 2, "seconds": 0.125})
    peer.add_totals({"attempts": 1, "seconds": 0.25, "crashes": 1})
    assert storage.totals() == peer.totals() == {"attempts": 3, "seconds": 0.375, "crashes": 1}


def test_to_add_nothing_is_no_fault(storage: Storage) -> None:
    storage.add_totals({})
    assert storage.totals() == {}


@pytest.mark.parametrize(
    "name", ["x" * 512, "run_seconds\x1fjob=mail.send\x1fgroup=smtp:größe 'main'\x1fle=+Inf", "Case", "%s{}:?"]
)
def test_any_printable_name_comes_back_as_it_was(storage: Storage, name: str) -> None:
    storage.add_totals({name: 1, name.lower()[:-1] + "ü": 5})
    assert storage.totals()[name] == 1


@pytest.mark.parametrize("value", [1e-7, 0.1, 12345.678, 2.0**52 + 1, 1e18])
def test_values_keep_their_digits(storage: Storage, value: float) -> None:
    storage.add_totals({"a": value})
    assert storage.totals()["a"] == pytest.approx(value, rel=1e-14)


def test_names_beyond_the_bound_are_left_out_and_the_known_ones_go_on(storage: Storage) -> None:
    storage.add_totals({"a": 1, "b": 1}, most=3)
    storage.add_totals({"a": 1, "c": 1, "d": 1, "b": 1}, most=3)
    found = storage.totals()
    assert found.pop(LEFT_OUT) == 1
    assert len(found) == 3
    assert (found["a"], found["b"]) == (2, 2)
    storage.add_totals({"e": 1}, most=3)
    assert storage.totals() == {**found, LEFT_OUT: 2}
    assert storage.depths().totals == 4


def test_queues_of_other_names_have_totals_of_their_own(storage: Storage, open_storage: OpenStorage) -> None:
    other = open_storage(name="contract-totals-other")
    storage.add_totals({"a": 1})
    assert "a" not in other.totals()


def test_housekeeping_leaves_totals_alone(storage: Storage, worker: Worker) -> None:
    storage.add_totals({"a": 1})
    worker.beat()
    assert storage.totals() == {"a": 1}


@pytest.mark.parametrize("step", [MINUTE, HOUR])
def test_totals_of_a_period_are_kept_apart_and_go_after_a_while(storage: Storage, peer: Storage, step: Step) -> None:
    now = Period.at(step, storage.now())
    edge, old = now.oldest, Period(step, now.oldest.number - 1)
    for period in (old, edge, now):
        storage.add_totals({"a": 1}, period=period)
        peer.add_totals({"a": 1}, period=period)
    assert storage.totals(now) == peer.totals(now) == storage.totals(edge) == {"a": 2}
    assert storage.totals() == {} and storage.depths().totals == 0
    assert storage.totals(Period(step, now.number + 1)) == {}
    if not storage.display_url.startswith(("redis", "unix")):  # which lets them go by its own clock
        assert storage.totals(old) == {}


def test_a_period_takes_no_more_names_than_it_may(storage: Storage) -> None:
    period = Period.at(MINUTE, storage.now())
    storage.add_totals({"a": 1, "b": 1}, period=period, most=1)
    storage.add_totals({"a": 1}, period=period, most=1)
    assert storage.totals(period) == {"a": 2, LEFT_OUT: 1}


def test_what_plots_are_drawn_from_is_added_to_the_present_minute_and_hour(storage: Storage) -> None:
    done, attempts = "pijobs_enqueue_to_done_seconds\x1fjob=a\x1fle=1", "pijobs_attempts_total\x1fjob=a"
    add(storage, {done: 2, attempts: 3})
    assert storage.totals() == {done: 2, attempts: 3}
    for step in (MINUTE, HOUR):
        now = Period.at(step, storage.now())
        found = {name: value for period in now.back(2) for name, value in storage.totals(period).items()}
        assert found == {done: 2}


def test_nothing_is_lost_when_many_add_at_once(storage: Storage, peer: Storage) -> None:
    names = [f"name {number}" for number in range(20)]

    def add(to: Storage, order: list[str]) -> None:
        for _ in range(10):
            to.add_totals(dict.fromkeys(order, 1))

    threads = [
        threading.Thread(target=add, args=(to, order))
        for to in (storage, peer)
        for order in (names, names[::-1])
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.totals() == dict.fromkeys(names, 40)
