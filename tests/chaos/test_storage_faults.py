"""The storage itself is killed, stopped and started again while servers enqueue and workers work.

``kill -9`` of a database is not a power cut: what it wrote without flushing it is still the kernel's to write. Redis
with ``appendfsync everysec`` has written before it answers, most of the time; what it loses is printed, not judged.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from .conftest import GetServer, MakeSite, runs
from .crowd import Crowd
from .report import row, tell
from .storages import Server


class Trouble:
    """What is done to a storage: one kill in three hits one process only, where there are several."""

    def __init__(self, server: Server, crowd: Crowd) -> None:
        self._server, self._crowd = server, crowd

    def strike(self) -> None:
        chance, toll = self._crowd.chance, self._crowd.toll
        kind = chance.random()
        if kind < 0.25:
            self._server.freeze()
            time.sleep(chance.choice([0.2, 1.5]))
            self._server.thaw()
            toll.stops += 1
            return
        if kind < 0.5:
            self._server.kill_child(chance.randrange(100))
        else:
            self._server.kill()
        time.sleep(chance.uniform(0.0, 1.0))
        self._server.start()
        toll.storage += 1


@runs(
    ["redis", "redis everysec", "postgresql", "mariadb"],
    {"jobs": 60, "kills": 2},
    {"jobs": 3_000, "kills": 40},
    only_long=["redis everysec"],
)
def test_a_killed_storage_keeps_what_it_acknowledged(
    make_site: MakeSite, get_server: GetServer, stopwatch: Callable[[], float], kind: str, jobs: int, kills: int
) -> None:
    server = get_server(kind)
    crowd = Crowd(make_site(server.url), random.Random(f"{kind} {jobs}"), worker_types=("thread", "process"))
    crowd.go_through(jobs, kills, Trouble(server, crowd).strike)
    books = crowd.finish(timeout=jobs / 10 + 30)
    tell(row(kind, "SIGKILL and SIGSTOP of the storage", books, crowd.toll, stopwatch()))
    if kind == "redis everysec":
        books.check_ends()
    else:
        books.check()
