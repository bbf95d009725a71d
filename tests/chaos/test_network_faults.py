"""The network between pijobs and its storage delays, drops, cuts and half-closes at random points."""

from __future__ import annotations

import random
from collections.abc import Callable

from .conftest import GetServer, MakeSite, runs
from .crowd import Crowd
from .proxy import FAULTS, network
from .report import row, tell

#: How many packets one operation takes, about.
PACKETS = {"redis": 1, "postgresql": 4, "mariadb": 8}


@runs(
    ["redis", "postgresql", "mariadb"],
    {"jobs": 60, "faults": 6, "rate": 0.02},
    {"jobs": 3_000, "faults": 400, "rate": 0.02},
    only_long=["mariadb"],
)
def test_a_failing_network_loses_no_job(
    make_site: MakeSite,
    get_server: GetServer,
    stopwatch: Callable[[], float],
    kind: str,
    jobs: int,
    faults: int,
    rate: float,
) -> None:
    chance = random.Random(f"{kind} {jobs}")
    server = get_server(kind)
    with network(server.target, chance) as net:
        crowd = Crowd(make_site(server.proxy_url.format(net.port)), chance)
        net.rate = rate / PACKETS[kind]

        def count() -> None:
            crowd.toll.network = net.faults.total()

        crowd.go_through(jobs, faults, count)
        net.calm_down()
        books = crowd.finish(timeout=jobs / 10 + 30)
        crowd.toll.network = net.faults.total()
    fault = "network: " + ", ".join(f"{net.faults[fault]:,} × {fault}" for fault in FAULTS)
    tell(row(kind, fault, books, crowd.toll, stopwatch()))
    books.check()
