"""The Redis master is killed again and again, and its replica takes over while servers enqueue and workers work.

Redis answers before a replica has what it answered. So what was acknowledged in the last moment before a kill may be
lost, and what ended in it may run again: that is counted, printed, and nothing else may be missing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from redis_groups import GROUPS, Group

from .books import Books
from .conftest import MakeSite, runs
from .crowd import Crowd
from .report import row, tell

#: Seconds that a replica on the same machine may be behind: more than anybody ever saw.
BEHIND = 1.0


class Failovers:
    """:ivar kills: when, by the host's clock (seconds)."""

    def __init__(self, group: Group, crowd: Crowd, queue: str) -> None:
        self._group, self._crowd, self._queue = group, crowd, queue
        self.kills: list[float] = []

    def strike(self) -> None:
        self._group.revive()
        master = self._group.wait_whole(self._queue)
        # In the middle of the work, and not of the wait for replicas.
        time.sleep(self._crowd.chance.uniform(0.0, 0.5))
        self.kills.append(time.clock_gettime(time.CLOCK_REALTIME))
        master.kill()
        self._group.wait_successor(self._queue)
        self._crowd.toll.storage += 1

    def explains(self, books: Books, id: str) -> bool:
        """Whether the enqueue or an effect of an instance came right before a kill."""
        moments = [*books.effects.get(id, ()), *([books.promises[id].after] if id in books.promises else ())]
        return any(kill - BEHIND < moment < kill + BEHIND for moment in moments for kill in self.kills)


@runs(["redis sentinel", "redis cluster"], {"jobs": 60, "kills": 1}, {"jobs": 3_000, "kills": 10})
def test_a_failover_loses_only_what_no_replica_had(
    make_site: MakeSite, stopwatch: Callable[[], float], kind: str, jobs: int, kills: int
) -> None:
    with GROUPS[kind]() as group:
        site = make_site(group.url)
        crowd = Crowd(site, random.Random(f"{kind} {jobs}"))
        failovers = Failovers(group, crowd, site.queue.settings.name)
        crowd.go_through(jobs, kills, failovers.strike)
        books = crowd.finish(timeout=jobs / 10 + 60)
        tell(row(kind, "SIGKILL of the master", books, crowd.toll, stopwatch()))
        books.check_ends()
        beyond = {id for id in books.lost | books.unexplained if not failovers.explains(books, id)}
        assert not beyond, group.story()
