"""How long the pages take with many job instances: each must answer below 200 ms at the 95th percentile.

    python benchmarks/pages.py [redis://127.0.0.1:6379/15 | sqlite:///FILE] [--instances 100000] [--rounds 40] [--json]

The instances are those of ``benchmarks/status.py``. The time is that of a whole request by a signed-in admin, from the
routing to the last byte of the page (without a socket), in milliseconds: median and 95th percentile.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import status

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from integration.served import make_app, queue_of
from integration.visits import Visit

from pijobs import instances
from pijobs.jobs import State


def paths(app: Any) -> dict[str, str]:
    """What people look at."""
    queue = queue_of(app)
    _, cursor = instances.listing(queue, state=State.DONE, limit=50)
    (row, *_), _ = instances.listing(queue, state=State.DEAD, limit=1)
    return {
        "overview": "/",
        "jobs": "/jobs",
        **{f"jobs {state}": f"/jobs?state={state}" for state in State},
        "jobs by name": "/jobs?name=bench.job3",
        "jobs by group": "/jobs?group=group3",
        "jobs by name, group": "/jobs?name=bench.job3&group=group3",
        "jobs, none": "/jobs?name=bench.none&group=group3",
        "jobs of an hour": "/jobs?time=3600",
        "jobs of five minutes": "/jobs?time=300&state=dead",
        "jobs, next page": f"/jobs?state=done&cursor={cursor}",
        "one job": f"/jobs/{row['id']}",
        "workers": "/workers",
        "SMTP servers": "/smtp/",
    }


def run(url: str, number: int, rounds: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="pijobs-bench-") as folder:
        app = make_app(
            Path(folder), URL=url, NAME=f"bench-{uuid.uuid4().hex}", PLUGINS=("mail",), KEEP_FINISHED=(86400, number)
        )
        queue, kind = queue_of(app), url.partition(":")[0]
        assert queue.storage is not None
        started = time.perf_counter()
        status.fill(queue, number)
        print(f"{kind}: {number} instances stored in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        visit, rows = Visit(app), []
        for name, path in paths(app).items():
            median, late = status.measure(lambda path=path: visit.text(path), rounds)  # type: ignore[misc]
            rows.append({"storage": kind, "page": name, "median": median, "p95": late, "ok": late < status.LIMIT})
            print(f"{kind:10} {name:24} {median:8.1f} {late:8.1f}", file=sys.stderr)
        queue.storage.close()
        return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", nargs="?")
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with status.places(given.url) as urls:
        rows = [row for url in urls for row in run(url, given.instances, given.rounds)]
    if given.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'storage':10} {'page':24} {'median ms':>10} {'95th %':>10}")
    for row in rows:
        late = "" if row["ok"] else f"  above {status.LIMIT:g}"
        print(f"{row['storage']:10} {row['page']:24} {row['median']:10.1f} {row['p95']:10.1f}{late}")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
