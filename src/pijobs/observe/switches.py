"""Checks of what people have switched: pauses, and bypasses of the queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pijobs.jobs import State
from pijobs.observe.status import told_age, told_bypass, told_pause
from pijobs.plugins.hookspecs import CheckResult

#: Seconds after which a pause may have been forgotten.
FORGOTTEN = 4 * 3600.0


def paused(answer: Mapping[str, Any]) -> CheckResult:
    """Whether anything is paused, by whom and why.

    :param answer: of :func:`pijobs.observe.status.overview`.
    """
    found = [
        f"destination {row['name']} ({row['waiting']} waiting), {told_pause(row['pause'])}"
        for row in answer["groups"]
        if row["paused"]
    ]
    if answer["paused"]:
        waiting = answer["states"][State.QUEUED.value]
        found.insert(0, f"the whole queue ({waiting} waiting), {told_pause(answer['pause'])}")
    if not found:
        return CheckResult(True, "nothing is paused")
    return CheckResult(True, f"paused: {'; '.join(found)}", "'pijobs resume' ends a pause", warning=True)


def forgotten(answer: Mapping[str, Any]) -> CheckResult:
    """Whether anything is paused for so long that who paused it may have gone home."""
    pauses = {f"destination {row['name']}": row["pause"] for row in answer["groups"] if row["pause"]}
    if answer["pause"]:
        pauses["the whole queue"] = answer["pause"]
    found = [
        f"{name} for {told_age(pause['age'])}, {told_pause(pause)}"
        for name, pause in pauses.items()
        if pause["age"] is not None and pause["age"] >= FORGOTTEN
    ]
    if not found:
        return CheckResult(True, f"nothing is paused for more than {told_age(FORGOTTEN)}")
    return CheckResult(False, f"paused, and perhaps forgotten: {'; '.join(found)}", "'pijobs resume' ends a pause")


def bypassed(answer: Mapping[str, Any]) -> CheckResult:
    """Whether jobs run in the request because somebody wants it so."""
    found = [told_bypass(row) for row in answer["bypasses"]]
    if not found:
        return CheckResult(True, "nobody bypasses the queue")
    return CheckResult(False, "; ".join(found), "'pijobs bypass --end' gives new calls to the queue again")
