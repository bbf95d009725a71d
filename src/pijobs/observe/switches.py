"""What people switch: pauses, bypasses of the queue, immediate tries of a destination; and the checks that report
them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pijobs.base.redact import redact
from pijobs.base.told import Told
from pijobs.execution.groups import Policy
from pijobs.jobs import State
from pijobs.observe.sentences import told_age, told_bypass, told_pause
from pijobs.plugins.hookspecs import CheckResult
from pijobs.storage.contract import Storage

#: Seconds after which a pause may have been forgotten.
FORGOTTEN = 4 * 3600.0
ENDS = Told("'pijobs resume' ends a pause")
WHOLE_QUEUE = Told("the whole queue")
#: Characters of the reason of a pause.
LONGEST_REASON = 200


def paused(answer: Mapping[str, Any]) -> CheckResult:
    """Whether anything is paused, by whom and why.

    :param answer: of :func:`pijobs.observe.status.overview`.
    """
    pauses = [(_of(row), row["waiting"], row["pause"]) for row in answer["groups"] if row["paused"]]
    if answer["paused"]:
        pauses.insert(0, (WHOLE_QUEUE, answer["states"][State.QUEUED.value], answer["pause"]))
    if not pauses:
        return CheckResult(True, Told("nothing is paused"))
    found = [
        Told("{what} ({number} waiting), {how}", what=what, number=number, how=told_pause(pause))
        for what, number, pause in pauses
    ]
    return CheckResult(True, Told("paused: {found}", found=Told.joined("; ", found)), ENDS, warning=True)


def forgotten(answer: Mapping[str, Any]) -> CheckResult:
    """Whether anything is paused for so long that somebody may have forgotten it."""
    pauses = {_of(row): row["pause"] for row in answer["groups"] if row["pause"]}
    if answer["pause"]:
        pauses[WHOLE_QUEUE] = answer["pause"]
    found = [
        Told("{what} for {time}, {how}", what=what, time=told_age(pause["age"]), how=told_pause(pause))
        for what, pause in pauses.items()
        if pause["age"] is not None and pause["age"] >= FORGOTTEN
    ]
    if not found:
        return CheckResult(True, Told("nothing is paused for more than {time}", time=told_age(FORGOTTEN)))
    return CheckResult(False, Told("paused, and perhaps forgotten: {found}", found=Told.joined("; ", found)), ENDS)


def _of(row: Mapping[str, Any]) -> Told:
    return Told("destination {name}", name=row["name"])


def bypassed(answer: Mapping[str, Any]) -> CheckResult:
    """Whether somebody bypasses the queue, so that jobs run in the request."""
    found = [told_bypass(row) for row in answer["bypasses"]]
    if not found:
        return CheckResult(True, Told("nobody bypasses the queue"))
    advice = Told("'pijobs bypass --end' gives new calls to the queue again")
    return CheckResult(False, Told.joined("; ", found), advice)


def pause(storage: Storage, group: str | None, *, by: str, reason: str) -> str:
    """Pause the queue or a group.

    :param by: who does it.
    :returns: the reason as it is stored: masked, and cut.
    """
    reason = _kept(reason)
    storage.pause(group, by=by, reason=reason)
    return reason


def bypass(storage: Storage, group: str | None, *, by: str, reason: str) -> str:
    """Run new calls (for a group) in the request, in all processes, from their next call on.

    :param by: who does it.
    :returns: the reason as it is stored: masked, and cut.
    """
    reason = _kept(reason)
    storage.bypass(group, by=by, reason=reason)
    return reason


def flush(storage: Storage, group: str) -> tuple[bool, int]:
    """Try a destination now: its breaker lets one instance through, and instances that wait for their next attempt
    become due.

    :returns: whether its breaker is open, and how many are due.
    """
    number = storage.make_due(group)
    return _probe(storage, group), number


def resume(storage: Storage, group: str | None) -> bool:
    """End a pause of the queue or of a group. If the circuit breaker of the group is open, one instance tries it now.

    :returns: whether the breaker is open.
    """
    storage.resume(group)
    return group is not None and _probe(storage, group)


def _probe(storage: Storage, group: str) -> bool:
    """Let one instance try, if the breaker is open; whether it is."""
    while (record := storage.group(group)) is not None:
        if not Policy.loads(record.policy).opened:
            return False
        if record.blocked_until is None or storage.set_group(
            group, version=record.version, limit=record.limit, blocked_until=None, policy=record.policy
        ):
            return True
    return False


def _kept(reason: str) -> str:
    return " ".join(redact(reason).split())[:LONGEST_REASON]
