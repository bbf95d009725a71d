"""Servers and workers whose clocks are minutes off: deadlines, delays and leases are judged by the storage's clock.

Not on SQLite: there is no server, so the clock of the host is the storage's, and it is the same for all that can open
the file.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .conftest import GetServer, MakeSite, runs
from .crowd import Crowd
from .enqueuer import LONG
from .report import row, tell


@runs(["redis", "postgresql", "mariadb"], {"jobs": 60, "kills": 1}, {"jobs": 2_000, "kills": 20}, only_long=["mariadb"])
def test_wrong_clocks_change_nothing(
    make_site: MakeSite, get_server: GetServer, stopwatch: Callable[[], float], kind: str, jobs: int, kills: int
) -> None:
    chance = random.Random(f"{kind} {jobs}")
    crowd = Crowd(make_site(get_server(kind).url), chance, shifts=(300.0, -300.0))
    crowd.go_through(jobs, kills)
    books = crowd.finish(timeout=jobs / 10 + 30)
    tell(row(kind, "clocks 5 minutes ahead and behind, with kills", books, crowd.toll, stopwatch()))
    books.check()
    # With five minutes too few, these would never run; their deadlines are nearer than that.
    assert all(books.effects.get(id) for id, promise in books.promises.items() if promise.expires == LONG)
