"""Formats a history for people."""

from __future__ import annotations

from collections.abc import Iterator

from pijobs.testing.simulation.history import Outcome
from pijobs.testing.simulation.plan import Plan


def story(plan: Plan, outcome: Outcome) -> Iterator[str]:
    """The lines of a history: time, process, event."""
    workers = ", ".join(str(slots) for slots in plan.workers)
    yield f"history {plan.seed}: {plan.servers} servers, workers with {workers} slots on {plan.hosts} hosts,"
    spool = "a spool on each" if plan.spool else "no spool"
    yield f"    {spool}, fallback {plan.fallback}; seconds since its beginning:"
    for moment, who, what in outcome.story:
        if not who.startswith("server of"):
            yield f"{moment:9.3f}  {who:<10} {what}"
    yield f"broken: {outcome.broken}" if outcome.broken else "every promise was kept"
