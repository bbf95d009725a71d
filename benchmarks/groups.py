"""How long a storage is held at once while many groups are in use: no operation may hold Redis for more than 5 ms.

    python benchmarks/groups.py [URL] [--groups 10000] [--instances 100000] [--workers 50] [--rounds 100] [--json]

Without a URL: a private Redis, then a file of SQLite. The instances wait in all groups, a tenth of them for their time.
Each of the worker processes, which are sessions only, holds 8 of them. One group of a hundred is paused, and one has an
open circuit breaker; two of three totals are in use.

=========  ===========================================================================================================
Redis      milliseconds for which it was held by the longest kind of command of each operation, as its SLOWLOG tells
the other  milliseconds of the operation itself
=========  ===========================================================================================================

Median, 99th percentile and the longest. Redis counts the time for which a busy machine did not run it, too: so the
median decides, and the exit code is 1 where it is above the limit.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import status as bench

from pijobs.execution.groups import Policy
from pijobs.factory import build
from pijobs.jobs import State
from pijobs.observe import facts, lists, status
from pijobs.observe.readiness import readiness
from pijobs.request.queue import Queue
from pijobs.server.exposition import exposition
from pijobs.storage.contract import Storage
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import BATCH, MAX_TOTALS, End, Lease, NewInstance
from pijobs.worker.slots import AHEAD_MOST

LIMIT = 5.0  # ms
JOBS = 20
HOUR = 3_600_000  # ms
#: What was done; median, 99th percentile and the longest, in milliseconds.
Row = tuple[str, float, float, float]


@dataclass
class Life:
    """What servers and workers do, with many groups in use."""

    storage: Storage
    groups: int
    session: str = ""
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    held: list[Lease] = field(default_factory=list)

    def fill(self, number: int, workers: int) -> None:
        later = self.storage.now() + HOUR
        for begin in range(0, number, BATCH):
            batch = [
                self.instance(f"group{one % self.groups:05}", due=later if one % 10 == 9 else None)
                for one in range(begin, min(begin + BATCH, number))
            ]
            self.storage.enqueue_many([(new, "replace") for new in batch], timeout=30)
        for one in range(0, self.groups, 100):
            self.storage.pause(f"group{one:05}")
            self.block(f"group{one + 1:05}")
        for _ in range(workers):
            self.session = self.open_session()
            self.storage.step(self.session, (), want=8)
        self.storage.add_totals({f"bench_{one}": 1.0 for one in range(MAX_TOTALS * 2 // 3)})

    def open_session(self) -> str:
        session = uuid.uuid4().hex
        info = SessionInfo(session, "bench", 1, self.storage.now(), "1", workers=64)
        self.storage.open_session(info, lease=HOUR)
        return session

    def block(self, group: str) -> None:
        record = self.storage.group(group)
        version, now = record.version if record else 0, self.storage.now()
        policy = Policy(failures=9, opened=1, opened_at=now, reason="connection refused").dumps()
        self.storage.set_group(group, version=version, limit=5, blocked_until=now + HOUR, policy=policy, keep=HOUR)

    def enqueue(self, group: str | None = None, **facts: Any) -> None:
        new = self.instance(group or f"group{self.chance.randrange(self.groups):05}", **facts)
        self.storage.enqueue(new, timeout=30)

    def instance(self, group: str, **facts: Any) -> NewInstance:
        return NewInstance(
            uuid.uuid4().hex, f"bench.job{self.chance.randrange(JOBS)}", b"envelope", b"body" * 100, group, limit=5,
            created=self.storage.now(), subject=f"user{self.chance.randrange(5000)}", keep=24 * HOUR,
            priority=self.chance.choice((0, 0, 0, 10, -10)), **facts,
        )  # fmt: skip

    def step(self, want: int, *, floor: int | None = None, state: State = State.DONE, due: int | None = None) -> None:
        """End what the last step took, and take as many again."""
        entry = json.dumps({"at": 0, "event": "attempt", "attempt": 1, "started": 0, "outcome": state.value})
        ends = [End(one.id, one.token, state, due=due, reason="550 no such user", entry=entry) for one in self.held]
        self.held = self.storage.step(self.session, ends, want=want, floor=floor).leases

    def beat(self) -> None:
        self.storage.beat(self.session, lease=HOUR)

    def die(self) -> None:
        """A worker dies that held what four threads hold at most."""
        session = self.open_session()
        for _ in range(4):
            self.storage.step(session, (), want=AHEAD_MOST)
        self.storage.close_session(session, crashed=True)

    def operations(self, queue: Queue) -> dict[str, Callable[[], Any]]:
        storage = self.storage
        return {
            "enqueue": self.enqueue,
            "enqueue, new group": lambda: self.enqueue(uuid.uuid4().hex),
            "enqueue, with a key": lambda: self.enqueue(key=f"key{self.chance.randrange(10)}"),
            "enqueue, for later": lambda: self.enqueue(due=storage.now() + 1),
            "step, 8 jobs": lambda: self.step(8),
            f"step, {AHEAD_MOST} jobs": lambda: self.step(AHEAD_MOST),
            f"step, {AHEAD_MOST} jobs to run again": lambda: self.step(
                AHEAD_MOST, state=State.SCHEDULED, due=storage.now() + 1
            ),
            "step, nothing urgent waits": lambda: self.step(8, floor=900),
            "sign of life": self.beat,
            "the other workers": storage.sessions,
            "a worker of 96 jobs dies": self.die,
            "jobs list": lambda: lists.listing(queue, limit=50),
            "groups": lambda: [*facts.groups(storage)],
            "status": lambda: status.overview(queue),
            "readiness": lambda: readiness(queue),
            "/metrics": lambda: exposition(queue),
        }


class Held:
    """How long each command held Redis."""

    def __init__(self, url: str) -> None:
        from redis import Redis

        self._client = Redis.from_url(url)
        self._client.config_set("slowlog-log-slower-than", 0)
        self._client.config_set("slowlog-max-len", 100_000)

    def __call__(self, operate: Callable[[], Any]) -> Iterator[tuple[bytes, float]]:
        self._client.slowlog_reset()
        operate()
        for entry in self._client.slowlog_get(100_000):
            name, script, _, _, what, *_ = [*entry["command"].split(b" "), *[b""] * 5]
            if name != b"SLOWLOG":
                # Of most scripts the first argument is an id; of one it says what is to be read.
                yield b" ".join([name, script, what if what.isalpha() else b""]), entry["duration"] / 1000


def took(operate: Callable[[], Any]) -> Iterator[tuple[bytes, float]]:
    started = time.perf_counter()
    operate()
    yield b"", (time.perf_counter() - started) * 1000


def slowest(kinds: Iterable[tuple[bytes, float]]) -> tuple[float, float, float]:
    """Median, 99th percentile and longest of the kind that takes longest."""
    times: dict[bytes, list[float]] = {}
    for kind, time_of_one in kinds:
        times.setdefault(kind, []).append(time_of_one)
    found = max((one for one in times.values() if len(one) > 1), key=statistics.median)
    return statistics.median(found), statistics.quantiles(found, n=100, method="inclusive")[-1], max(found)


def run(url: str, groups: int, number: int, workers: int, rounds: int) -> Iterator[Row]:
    values = {
        "SECRET_KEY": "bench", "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_URL": url,
        "PI_JOB_QUEUE_NAME": f"bench-{uuid.uuid4().hex}", "PI_JOB_QUEUE_PLUGINS": (),
    }  # fmt: skip
    queue = build(values).queue
    assert queue.storage is not None
    life, started = Life(queue.storage, groups), time.perf_counter()
    life.fill(number, workers)
    print(f"{queue.storage.display_url}: filled in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    measure = Held(url) if url.startswith("redis") else took
    for name, operate in life.operations(queue).items():
        yield name, *slowest(one for _ in range(rounds) for one in measure(operate))
    queue.storage.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", nargs="?")
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if not given.json:
        print(f"{'storage':12} {'operation':28} {'median ms':>10} {'99th %':>10} {'longest':>10}")
    with bench.places(given.url) as urls:
        for url in urls:
            storage = url.partition(":")[0].partition("+")[0]
            for name, median, late, longest in run(url, given.groups, given.instances, given.workers, given.rounds):
                held = storage == "redis" and median > LIMIT
                rows.append({"storage": storage, "operation": name, "median": median, "p99": late, "longest": longest,
                             "ok": not held})  # fmt: skip
                if not given.json:
                    above = f"  above {LIMIT:g}" if held else ""
                    print(f"{storage:12} {name:28} {median:10.2f} {late:10.2f} {longest:10.2f}{above}", flush=True)
    if given.json:
        print(json.dumps(rows, indent=2))
    return 0 if given.json or all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
