"""How long the commands and routes take with many job instances: each filter must answer below 200 ms.

    python benchmarks/status.py [redis://127.0.0.1:6379/15 | sqlite:///FILE] [--instances 100000] [--rounds 40] [--json]

Without a URL: a private Redis, then a file of SQLite. A tenth of the instances wait, the others have ended in all the
ways there are; 20 jobs, 50 groups, 5,000 subjects. The time is that of the answer itself (without HTTP, and without the
start of a command), in milliseconds: median and 95th percentile.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder: a module "queue" in it would hide the one of the standard library

import argparse
import contextlib
import json
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from pijobs.factory import build
from pijobs.jobs import State
from pijobs.observe import facts, instances, lists, status
from pijobs.observe.readiness import readiness
from pijobs.payload.keys import KeyRing
from pijobs.request.queue import Queue
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End, NewInstance

LIMIT = 200.0  # ms
JOBS, GROUPS, SUBJECTS = 20, 50, 5000
ENDS = (State.DONE, State.DONE, State.DONE, State.DEAD, State.EXPIRED)
HOUR = 3_600_000  # ms
#: What was asked, and milliseconds: median and 95th percentile.
Row = tuple[str, float, float]


def fill(queue: Queue, number: int) -> None:
    """The instances; the waiting ones come last, so that a worker would not have taken them."""
    assert queue.storage is not None
    storage, chance, started = queue.storage, random.Random(7), time.perf_counter()
    lookup = KeyRing.of(queue.settings).newest.lookup
    session = uuid.uuid4().hex
    storage.open_session(SessionInfo(session, "bench", 1, storage.now(), "1", workers=64), lease=24 * HOUR)
    subjects = [lookup("subject", f"user{one}@example.com") for one in range(SUBJECTS)]

    def add(due: int | None = None) -> None:
        job = chance.randrange(JOBS)
        storage.enqueue(
            NewInstance(
                uuid.uuid4().hex, f"bench.job{job}", b"envelope", b"body" * 100, f"group{chance.randrange(GROUPS)}",
                created=storage.now(), due=due, subject=chance.choice(subjects), keep=24 * HOUR,
            ),
            timeout=30,
        )  # fmt: skip

    waiting, ends = number // 10, list[End]()
    for done in range(0, number - waiting, 50):
        for _ in range(min(50, number - waiting - done)):
            add()
        leases = storage.step(session, ends, want=50).leases
        ends = [_end(lease.id, lease.token, chance) for lease in leases]
    while ends:
        leases = storage.step(session, ends, want=50).leases
        ends = [_end(lease.id, lease.token, chance) for lease in leases]
    for one in range(waiting):
        add(storage.now() + HOUR if one % 2 else None)
    kept = sum(storage.depths().counts.values())
    print(f"{storage.display_url}: {kept} instances stored in {time.perf_counter() - started:.0f} s", file=sys.stderr)


def _end(instance_id: str, token: str, chance: random.Random) -> End:
    state = chance.choice(ENDS)
    entry = json.dumps({"at": 0, "event": "attempt", "attempt": 1, "started": 0, "outcome": state.value})
    return End(instance_id, token, state, reason="550 5.1.1 no such user", entry=entry)


def questions(queue: Queue) -> dict[str, Callable[[], Any]]:
    """What people ask."""

    def listed(**filters: Any) -> Callable[[], Any]:
        return lambda: lists.listing(queue, limit=50, **filters)

    _, cursor = lists.listing(queue, state=State.DONE, limit=50)
    (row, *_), _ = lists.listing(queue, state=State.DEAD, limit=1)
    return {
        "jobs list": listed(),
        **{f"--state {state}": listed(state=state) for state in facts.STATE_ORDER},
        "--name": listed(name="bench.job3"),
        "--group": listed(group="group3"),
        "--subject": listed(subject="user77@example.com"),
        "--subject, unknown": listed(subject="nobody@example.com"),
        "--state --name": listed(state=State.DEAD, name="bench.job3"),
        "--state --group": listed(state=State.DEAD, group="group3"),
        "--name --group": listed(name="bench.job3", group="group3"),
        "--name --group, none": listed(name="bench.none", group="group3"),
        "--subject --name": listed(subject="user77@example.com", name="bench.job3"),
        "--cursor": listed(state=State.DONE, cursor=cursor),
        "jobs show": lambda: instances.explained(queue, row["id"]),
        "status": lambda: status.overview(queue),
        "groups": lambda: facts.groups(queue.storage),  # type: ignore[arg-type]
        "workers": lambda: facts.workers(queue.storage),  # type: ignore[arg-type]
        "readiness": lambda: readiness(queue),
    }


def measure(ask: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Milliseconds: median and 95th percentile."""
    ask()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        ask()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times), statistics.quantiles(times, n=20)[-1]


@contextmanager
def places(url: str | None) -> Iterator[list[str]]:
    with contextlib.ExitStack() as stack:
        if url:
            yield [url]
            return
        from integration.redis_server import running

        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pijobs-bench-"))
        yield [stack.enter_context(running()).url, f"sqlite:///{folder}/queue.sqlite"]


def run(url: str, number: int, rounds: int) -> Iterator[Row]:
    values = {
        "SECRET_KEY": "bench", "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_URL": url,
        "PI_JOB_QUEUE_NAME": f"bench-{uuid.uuid4().hex}", "PI_JOB_QUEUE_PLUGINS": (),
        "PI_JOB_QUEUE_KEEP_FINISHED": (24 * 3600, number),
    }  # fmt: skip
    queue = build(values).queue
    assert queue.storage is not None
    fill(queue, number)
    for name, ask in questions(queue).items():
        yield name, *measure(ask, rounds)
    queue.storage.close()


def command(text: str, asked: str, run: Callable[[str, int, int], Iterator[Row]]) -> int:
    """Measure on each storage and print a table; the exit code.

    :param text: the documentation of the benchmark.
    :param asked: heading of what is measured.
    :param run: given URL, instances and rounds.
    """
    parser = argparse.ArgumentParser(description=text.partition("\n")[0])
    parser.add_argument("url", nargs="?")
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if not given.json:
        print(f"{'storage':10} {asked:24} {'median ms':>10} {'95th %':>10}")
    with places(given.url) as urls:
        for url in urls:
            for name, median, late in run(url, given.instances, given.rounds):
                row = {"storage": url.partition(":")[0].partition("+")[0], asked: name, "median": median, "p95": late}
                rows.append({**row, "ok": late < LIMIT})
                if not given.json:
                    above = "" if late < LIMIT else f"  above {LIMIT:g}"
                    print(f"{row['storage']:10} {name:24} {median:10.1f} {late:10.1f}{above}", flush=True)
    if given.json:
        print(json.dumps(rows, indent=2))
    return 0 if given.json or all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(command(__doc__ or "", "question", run))
