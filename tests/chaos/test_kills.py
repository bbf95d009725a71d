"""Servers and workers are killed and stopped at random: nothing is lost, nothing is late, and second runs are few."""

from __future__ import annotations

import random
from collections.abc import Callable

from .conftest import MakeSite, runs
from .crowd import Crowd
from .report import row, tell


@runs(
    ["sqlite", "redis", "postgresql", "mariadb"],
    {"jobs": 100, "kills": 3, "pause": 0.01},
    {"jobs": 10_000, "kills": 100, "pause": 0.008},
)
def test_no_kill_of_a_worker_or_a_server_loses_a_job(
    make_site: MakeSite,
    storage_url: Callable[[str], str],
    stopwatch: Callable[[], float],
    kind: str,
    jobs: int,
    kills: int,
    pause: float,
) -> None:
    crowd = Crowd(make_site(storage_url(kind)), random.Random(f"{kind} {jobs}"), pause=pause)
    crowd.go_through(jobs, kills)
    books = crowd.finish(timeout=jobs / 10 + 30)
    tell(row(kind, "SIGKILL and SIGSTOP of workers and servers", books, crowd.toll, stopwatch()))
    books.check()
    assert books.second_runs <= sum(record.crashes for record in books.records.values())
