"""The books after kills: enqueued = done + dead + expired + cancelled, whatever process was killed."""

from __future__ import annotations

import collections
import os
import random
import signal
import time

import pytest
from services import wait_until

from pijobs.jobs import State

from .site import Site


@pytest.mark.parametrize(
    ("jobs", "kills"), [(300, 8), pytest.param(2000, 50, marks=pytest.mark.chaos)], ids=["short", "long"]
)
def test_no_kill_loses_a_job(site: Site, jobs: int, kills: int) -> None:
    chance = random.Random(jobs)
    workers = [site.start_worker("-w", "2") for _ in range(2)]
    killed = enqueued = 0
    while killed < kills or enqueued < jobs:
        for _ in range(min(jobs - enqueued, jobs // kills + 1)):
            site.queue.enqueue("test.count", (enqueued,))
            enqueued += 1
        # A random moment is the point here: nothing is waited for.
        time.sleep(chance.random() * 0.3)
        if killed < kills:
            victim = workers.pop(chance.randrange(len(workers)))
            os.killpg(victim.pid, signal.SIGKILL)
            killed += 1
            workers.append(site.start("worker", "-w", "2", "-l", str(site.log)))
    wait_until(lambda: any(site.has_worker(worker) for worker in workers), 30, what="a live worker")
    counts = site.wait_all_ended("test.count")
    effects = collections.Counter(site.effects_of("count"))
    # A job that was running at three kills counts as poison; it is not lost, but it may have had no effect.
    assert counts.pop(State.DEAD, 0) <= kills // 3
    assert set(counts) == {State.DONE}
    assert sum(site.counts("test.count").values()) == jobs
    assert jobs - len(effects) <= site.counts("test.count").get(State.DEAD, 0)
    # A second run is possible only for what ran at a kill: at most two per killed worker.
    assert sum(effects.values()) - len(effects) <= 2 * kills
