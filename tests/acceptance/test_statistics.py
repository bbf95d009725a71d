"""Statistics of workers that come and go."""

from __future__ import annotations

import json
import signal
from typing import Any

from services import wait_until

from pijobs import State

from .conftest import MakeSite
from .site import JOBS_MODULE, Site


def results(site: Site) -> dict[str, Any]:
    """How often the job under test was counted, by result."""
    told = json.loads(site.run("statistics", "jobs", "--per", "day", "--json").stdout)
    return {row["tags"]["result"]: row["count"] for row in told if row["tags"]["job"] == "test.poison"}


def test_what_a_new_worker_finds_dead_at_its_start_is_counted(make_site: MakeSite) -> None:
    site = make_site(PLUGINS=(JOBS_MODULE, "statistics"))
    instance = site.queue.enqueue("test.poison").id
    for _ in range(3):
        worker = site.start("worker", "-l", str(site.log))
        assert worker.wait(120) == 9
    # Its lease is over before the next worker gives its first sign of life, which finds it.
    session = site.storage.sessions()
    wait_until(lambda: session != site.storage.sessions(), what="the end of the lease")
    last = site.start_worker()
    assert site.wait_for(instance).state is State.DEAD
    last.send_signal(signal.SIGTERM)
    assert last.wait(120) == 0
    site.start_worker()
    wait_until(lambda: results(site) == {"dead": 1}, what="the dead one among the statistics")
