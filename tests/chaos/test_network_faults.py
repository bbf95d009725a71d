"""The network between pijobs and its storage delays, drops, cuts and half-closes at random points."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from .conftest import GetServer, MakeSite
from .crowd import Crowd
from .proxy import FAULTS, network
from .report import row, tell

LENGTHS = [
    pytest.param(150, 20, 0.02, id="short"),
    pytest.param(5_000, 1_000, 0.02, id="long", marks=[pytest.mark.chaos, pytest.mark.timeout(1200)]),
]


@pytest.mark.parametrize(("jobs", "faults", "rate"), LENGTHS)
@pytest.mark.parametrize("kind", ["redis", "postgresql", "mariadb"])
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
        net.rate = rate

        def count() -> None:
            crowd.toll.network = net.faults.total()

        crowd.go_through(jobs, faults, count)
        net.calm_down()
        books = crowd.finish(timeout=jobs / 10 + 30)
        crowd.toll.network = net.faults.total()
    tell(row(kind, "the network " + ", ".join(f"{fault} {net.faults[fault]:,}" for fault in FAULTS), books, crowd.toll, stopwatch()))
    books.check()
