"""A worker is killed again and again: statistics add up exactly, those of a program and those of jobs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from acceptance.site import Site
from services import wait_until

import pijobs_statistics as statistics
from pijobs.jobs import ENDED, State
from pijobs_statistics.store import Store

from . import books
from .conftest import MakeSite, runs
from .jobs_under_chaos import NAME


def record_and_enqueue(site: Site, chance: random.Random, jobs: int) -> int:
    """Some batches of records, and jobs; the sum of the records."""
    total = 0
    for _ in range(3):
        with statistics.collect(site.queue):
            for _ in range(20):
                value = chance.randint(1, 1000)
                statistics.record("chaos.sum", value, kind=chance.choice("abc"))
                total += value
    for _ in range(jobs):
        site.queue.enqueue(NAME, (), {"work": 0.002, "failures": 0})
    return total


def start(site: Site, worker_type: str) -> subprocess.Popen[bytes]:
    return site.start("worker", "-w", "2", "-k", worker_type, "-l", str(site.log))


def kill_at_work(site: Site, worker: subprocess.Popen[bytes]) -> None:
    """Kill it in the middle of its jobs."""
    done = len(books.lines(site.effects))
    wait_until(lambda: len(books.lines(site.effects)) > done, 100, what=f"an effect ({site.output()[-2000:]})")
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def counted(site: Site) -> tuple[int, dict[str, int]]:
    """The sum of the records, and the ends of the jobs by result."""
    rows = Store.of(site.queue.settings).read("day")
    total = sum(row.amount.total for row in rows if row.name == "chaos.sum")
    ends: Counter[str] = Counter()
    for row in rows:
        if row.tags.get("job") == NAME:
            ends[row.tags["result"]] += row.amount.count
    return total // 1000, dict(ends)


@runs(["sqlite", "redis"], {"kills": 2}, {"kills": 100})
def test_statistics_add_up_exactly_after_kills_of_the_worker(
    make_site: MakeSite, storage_url: Callable[[str], str], kind: str, kills: int, tmp_path: Path
) -> None:
    # Who records here has no fallback, and a busy disk is not what is looked at.
    site = make_site(storage_url(kind), PLUGINS=("chaos.jobs_under_chaos", "statistics"), ENQUEUE_TIMEOUT=10)
    chance, total, jobs = random.Random(f"statistics {kind}"), 0, 0
    for number in range(kills):
        total += record_and_enqueue(site, chance, 30)
        jobs += 30
        kill_at_work(site, start(site, ("thread", "process")[number % 2]))
    total += record_and_enqueue(site, chance, 5)
    jobs += 5
    last = start(site, "thread")
    ended = site.wait_all_ended(NAME, 120 + jobs / 5)
    journal = tmp_path / "pijobs-statistics"
    wait_until(lambda: list(journal.iterdir()) == [], what="the end of the journals")
    # The batches have the lowest priority: nearly all of them are left for the end.
    wait_until(lambda: ENDED.issuperset(site.counts("statistics.apply")), 90 + jobs / 10, what="the end of all batches")
    last.send_signal(signal.SIGTERM)
    assert last.wait(120) == 0
    found, ends = counted(site)
    done, dead = ended[State.DONE], ended.get(State.DEAD, 0)
    print(
        f"{kind}: {kills} kills, sum of {60 * kills + 60} records {found:,} of {total:,}; {jobs} jobs: {ended}, {ends}"
    )
    assert found == total
    assert done + dead == jobs
    # Each kill comes at a worker's first effect, so some jobs take down three workers, and are dead. What they had done
    # before the storage heard of it was told, too; a third end was told to nobody who lived to count it.
    assert done <= ends["done"] <= jobs
    assert ends.get("dead", 0) <= dead
