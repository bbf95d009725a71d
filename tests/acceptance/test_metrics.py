"""Numbers of several processes, from whichever of them is asked."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from services import wait_until

from pijobs.jobs import State

from .conftest import MakeSite
from .site import Site

JOBS = 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(port: int) -> dict[tuple[str, ...], float]:
    """What a process answers: name and label values of each sample."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=120) as response:
        families = text_string_to_metric_families(response.read().decode())
        return {(row.name, *row.labels.values()): row.value for family in families for row in family.samples}


@pytest.mark.parametrize("worker_type", ["thread", "process"])
def test_each_worker_tells_the_numbers_of_all(site: Site, worker_type: str) -> None:
    ports = [free_port(), free_port()]
    for port in ports:
        site.start_worker("-w", "2", "-k", worker_type, "--http", f"127.0.0.1:{port}")
    handles = [site.queue.enqueue("test.count", (number,)) for number in range(JOBS)]
    flaky = site.queue.enqueue("test.flaky", (99,))
    for handle in handles:
        assert site.wait_for(handle.id).state is State.DONE
    assert site.wait_for(flaky.id).state is State.DEAD

    def told() -> bool:
        return all(
            found.get(("pijobs_attempts_total", "test.count", "test.count", "done")) == JOBS
            and found.get(("pijobs_failed_total", "test.flaky", "test.flaky", "dead")) == 1
            for found in map(asked, ports)
        )

    wait_until(told, what="the counts of all workers")
    found = asked(ports[0])
    for name in ("time_to_start", "run", "enqueue_to_done"):
        assert found[f"pijobs_{name}_seconds_count", "test.count", "test.count"] == JOBS
        assert found[f"pijobs_{name}_seconds_bucket", "test.count", "test.count", "+Inf"] == JOBS
    assert found["pijobs_attempts_total", "test.flaky", "test.flaky", "scheduled"] == 2
    assert found["pijobs_signs_of_life_total", "answered"] > 0


def test_a_failed_attempt_is_told_long_before_the_next_sign_of_life(make_site: MakeSite) -> None:
    site = make_site(LEASE=120)
    site.start_worker()
    site.queue.enqueue("test.flaky", (99,))

    def told() -> bool:
        totals: dict[str, float] = site.storage.totals()
        return any(name.startswith("pijobs_attempts_total") and "scheduled" in name for name in totals)

    # A sign of life comes every 40 s.
    wait_until(told, what="the failed attempt in the totals")


def test_a_worker_tells_what_it_counted_before_it_ends(site: Site) -> None:
    worker = site.start_worker()
    handle = site.queue.enqueue("test.count", (1,))
    site.wait_for(handle.id)
    worker.terminate()
    worker.wait(120)
    counted = [value for name, value in site.storage.totals().items() if name.startswith("pijobs_attempts_total")]
    assert counted == [1]


def test_a_worker_that_was_killed_is_counted_as_a_crash(site: Site) -> None:
    site.start_worker("-k", "process")
    handle = site.queue.enqueue("test.poison")
    assert site.wait_for(handle.id).state is State.DEAD

    def crashes() -> float:
        totals: dict[str, float] = site.storage.totals()
        return sum(value for name, value in totals.items() if name.startswith("pijobs_crashes_total"))

    # Who finds a crash may take the same job and die of it before it flushes: that count is lost (see the reference).
    wait_until(lambda: crashes() >= 1, what="a crash")
    assert crashes() <= 3
