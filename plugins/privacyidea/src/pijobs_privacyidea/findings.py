"""The doctor's findings, and its last line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Level(str, Enum):
    OK = "ok"
    WARNING = "warning"
    BAD = "bad"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    :ivar advice: what to do.
    :ivar queued: whether it is a destination that the queue sends to.
    """

    level: Level
    text: str
    advice: str = ""
    queued: bool = False


def verdict(findings: Sequence[Finding]) -> str:
    """The last line: ``ready``, or the next thing to do."""
    bad = [finding for finding in findings if finding.level is Level.BAD]
    if bad:
        more = f" ({len(bad) - 1} more after it)" if bad[1:] else ""
        return f"not ready; next: {bad[0].advice or bad[0].text}{more}"
    if not any(finding.queued for finding in findings):
        return "not in use; next: tick the box of an SMTP server (send through the job queue)"
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    return f"ready, with {warnings} warning{'s' if warnings > 1 else ''} above" if warnings else "ready"
