"""How long the pages take with many job instances: each must answer below 200 ms at the 95th percentile.

    python benchmarks/pages.py [redis://127.0.0.1:6379/15 | sqlite:///FILE] [--instances 100000] [--rounds 40] [--json]

The instances are those of ``benchmarks/status.py``. The time is that of a whole request by a signed-in admin, from the
routing to the last byte of the page (without a socket), in milliseconds: median and 95th percentile.
"""

from __future__ import annotations

import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import status

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from integration.served import make_app, queue_of
from integration.visits import Visit

from pijobs.jobs import State
from pijobs.observe import lists


def paths(app: Any) -> dict[str, str]:
    """What people look at."""
    queue = queue_of(app)
    _, cursor = lists.listing(queue, state=State.DONE, limit=50)
    (row, *_), _ = lists.listing(queue, state=State.DEAD, limit=1)
    return {
        "overview": "/",
        "overview, last week": "/?span=week",
        "dead letters by reason": "/failures",
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
        "SMS gateways": "/sms/",
        "statistics": "/statistics/",
    }


def run(url: str, number: int, rounds: int) -> Iterator[status.Row]:
    with tempfile.TemporaryDirectory(prefix="pijobs-bench-") as folder:
        app = make_app(
            Path(folder), URL=url, NAME=f"bench-{uuid.uuid4().hex}", KEEP_FINISHED=(86400, number),
            PLUGINS=("mail", "sms", "statistics"), STATISTICS_JOURNAL=f"{folder}/journal",
        )  # fmt: skip
        queue = queue_of(app)
        assert queue.storage is not None
        status.fill(queue, number)
        visit = Visit(app)
        for name, path in paths(app).items():
            yield name, *status.measure(lambda path=path: visit.text(path), rounds)  # type: ignore[misc]
        queue.storage.close()


if __name__ == "__main__":
    sys.exit(status.command(__doc__ or "", "page", run))
