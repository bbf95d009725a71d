"""One row of a run for people, as ``docs/explanation/faults`` shows them."""

from __future__ import annotations

import os
from pathlib import Path

from pijobs.jobs import State

from .books import Books
from .crowd import Toll

COLUMNS = (
    "storage", "fault", "enqueued", "kills: workers", "servers", "storage", "stops", "done", "dead", "expired",
    "cancelled", "refused", "lost", "second runs", "late", "slowest enqueue (s)", "seconds",
)  # fmt: skip


def row(storage: str, fault: str, books: Books, toll: Toll, seconds: float) -> str:
    """A line of the table in Markdown."""
    ends = (books.ends[state] for state in (State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED))
    counts = (
        books.enqueued, toll.workers, toll.servers, toll.storage, toll.stops, *ends, books.refusals.total(),
        len(books.lost), books.second_runs, len(books.late),
    )  # fmt: skip
    cells = [storage, fault, *(f"{count:,}" for count in counts), f"{books.longest:.2f}", f"{seconds:.0f}"]
    return f"| {' | '.join(cells)} |"


def tell(line: str) -> None:
    """Print a row, and add it to the file ``PIJOBS_CHAOS_REPORT`` if that is set."""
    print(line)
    if name := os.environ.get("PIJOBS_CHAOS_REPORT"):
        report = Path(name)
        if not report.exists():
            heading = f"| {' | '.join(COLUMNS)} |\n| --- | --- |{' ---: |' * (len(COLUMNS) - 2)}\n"
            report.write_text(heading)
        with report.open("a") as file:
            file.write(line + "\n")
