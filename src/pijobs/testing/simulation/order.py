"""Judges the order in which instances are leased."""

from __future__ import annotations

from collections.abc import Callable

from pijobs.jobs import State
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.values import Step
from pijobs.testing.simulation.places import Place

Breaks = Callable[[str, str], None]


def judge_order(truth: MemoryStorage, step: Step, floor: int | None, breaks: Breaks) -> None:
    """Judge that the most urgent were leased first, by all data of a storage in memory."""
    priorities = [lease.priority for lease in step.leases]
    now = truth.now()
    ready = next((item for item in truth._ready(floor, now) if not item.overdue(now)), None)
    if priorities != sorted(priorities, reverse=True):
        breaks("order", f"leased with priorities {priorities}")
    if ready is not None and ready.new.priority > priorities[-1]:
        breaks("order", f"priority {priorities[-1]} was leased while {ready.new.priority} was ready")
    for item in truth._items.of(State.SCHEDULED):
        open_ = truth._groups[item.new.group].has_room(truth._items.running()[item.new.group], now)
        is_due = item.due <= now and not item.overdue(now) and (floor is None or item.new.priority >= floor)
        if is_due and open_ and item.new.priority > priorities[-1]:
            breaks("order", f"priority {priorities[-1]} was leased while {item.new.priority} was due")


def judge_what_is_left(place: Place, step: Step, breaks: Breaks) -> None:
    """Judge by a storage's answers only: nothing that stays is more urgent than what was leased."""
    least, now = min(lease.priority for lease in step.leases), place.time() * 1000 - 1
    depths = place.truth.depths()
    for record in place.truth.page(State.QUEUED, limit=1000).records if depths.pause is None else ():
        group = place.truth.group(record.group)
        full = group is not None and group.limit is not None and group.running >= group.limit
        held = group is not None and (group.pause is not None or (group.blocked_until or 0) > now)
        is_over = record.deadline is not None and record.deadline <= now + 2
        if record.priority > least and record.due <= now and not (full or held or is_over):
            breaks("order", f"priority {least} was leased while {record.priority} was ready: {record.id[:8]}")
