"""How busy the workers are, and how many are needed. Pure; for status, pages and ``/metrics``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pijobs.jobs import State

#: The part of the time that workers may be busy: above it, waiting times grow quickly.
FULL = 0.8


def load(
    workers: Sequence[Mapping[str, Any]],
    states: Mapping[str, int],
    groups: Sequence[Mapping[str, Any]],
    *,
    within: float,
) -> dict[str, Any]:
    """``workers`` that take work, how many are ``busy`` (mean of about a minute), ``utilisation`` (part of them),
    ``took`` (seconds of an attempt), ``backlog`` (seconds until what is due is done), and how many are ``needed``.

    The number needed is the number that would be busy for four fifths of the time, and do what is due now ``within`` so
    many seconds. Jobs for a destination that is paused or down do not count, because more workers would not help.

    :param workers: rows of :func:`pijobs.observe.status.session`.
    :param groups: those in trouble.
    """
    active = [row for row in workers if not row["quiet"]]
    number, busy = sum(row["workers"] for row in active), sum(row["busy"] for row in workers)
    times = [row["took"] for row in workers if row["took"]]
    took = sum(times) / len(times) if times else 0.0
    held = sum(row["waiting"] for row in groups if row["paused"] or row["breaker"] != "closed")
    work = max(0, states.get(State.QUEUED.value, 0) - held) * took
    return {
        "workers": number,
        "busy": round(busy, 2),
        "utilisation": round(busy / number, 3) if number else None,
        "took": round(took, 3),
        "backlog": round(work / number, 3) if number else None,
        "needed": max(1, math.ceil(round(busy / FULL + work / within, 6))),
    }


def told_load(row: Mapping[str, Any]) -> str:
    """In words, behind the number of workers."""
    if row["utilisation"] is None:
        return "all of them quiet"
    return f"{row['utilisation']:.0%} busy, {row['needed']} needed"
