"""Reduces a failing history to a short one that still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from pijobs.testing.simulation.plan import Plan

#: Most histories that are tried.
MOST = 400


def shrink(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Leave out parts that the failure does not need: first many at once, then one by one.

    :param fails: whether a plan breaks the same promise.
    """
    left = MOST
    changed = True
    while changed and left > 0:
        changed = False
        for smaller in _smaller(plan):
            left -= 1
            if left < 0:
                break
            if fails(smaller):
                plan, changed = smaller, True
                break
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    for kind in ("faults", "acts", "calls"):
        parts = len(getattr(plan, kind))
        size = parts
        while size:
            for first in range(0, parts, size):
                yield plan.without(kind, first, size)
            size //= 2
    for index in range(1, len(plan.workers)):
        if not any(fault.whom == f"worker {index}" for fault in plan.faults) and index == len(plan.workers) - 1:
            yield plan.without("workers", index, 1)
    if plan.spool:
        yield replace(plan, spool=False)
    if plan.old_release:
        yield replace(plan, old_release=False)
    for index, slots in enumerate(plan.workers):
        if slots > 1:
            yield replace(plan, workers=(*plan.workers[:index], 1, *plan.workers[index + 1 :]))
    for index, call in enumerate(plan.calls):
        for simple in ({"key": None}, {"delay": None}, {"priority": None}, {"expires": None}):
            if any(getattr(call, name) is not None for name in simple):
                one = replace(call, **simple)  # type: ignore[arg-type]
                yield replace(plan, calls=(*plan.calls[:index], one, *plan.calls[index + 1 :]))
