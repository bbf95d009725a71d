"""Recent outcomes: when each job was done last, and which failed for which reason.

It reads the records of the newest ended instances, so the answer is the same in every process and always costs the
same. Values as in :mod:`pijobs.observe.status`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pijobs.jobs import State
from pijobs.observe.facts import age, moment
from pijobs.observe.selection import without_addresses
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record

SPAN = 3_600_000  # ms
#: Records that are read of each kind of end.
SAMPLE = 100


def recent(storage: Storage, span: int = SPAN) -> dict[str, Any]:
    """The newest ends.

    ``jobs`` tells the seconds since each job was done last; ``failures`` counts by job, state and reason, and is cut
    short if ``failures_cut``.

    :param span: how far back, in ms.
    :raises StorageUnavailable: when the storage does not answer.
    """
    done, _ = _newest(storage, State.DONE, span)
    dead, dead_cut = _newest(storage, State.DEAD, span)
    expired, expired_cut = _newest(storage, State.EXPIRED, span)
    now, failed = storage.now(), dead + expired
    last: dict[str, dict[str, Any]] = {}
    for record in done:  # the newest come first
        last.setdefault(record.name, {"last_age": age(_ended(record), now)})
    return {
        "jobs": last,
        "failures": by_reason(now, failed),
        "failed": len(failed),
        "failures_cut": dead_cut or expired_cut,
    }


def _newest(storage: Storage, state: State, span: int) -> tuple[list[Record], bool]:
    """The newest instances that ended in this state within the span, and whether there are more."""
    page = storage.page(state, limit=SAMPLE)
    since = storage.now() - span
    records = [record for record in page.records if _ended(record) >= since]
    return records, page.cursor is not None and len(records) == len(page.records)


def _ended(record: Record) -> int:
    return record.ended or 0


def by_reason(now: int, failed: Iterable[Record]) -> list[dict[str, Any]]:
    """Failures by job, state and reason, the most frequent first. Reasons that differ only in recipients count as one.

    :param now: ms on the storage's clock.
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in sorted(failed, key=_ended, reverse=True):
        reason = without_addresses(record.reason or "no reason is known")
        newest = {
            "id": record.id, "name": record.name, "state": record.state.value, "group": record.group,
            "reason": reason, "number": 0, "ended": moment(record.ended), "age": age(_ended(record), now),
        }  # fmt: skip
        rows.setdefault((record.name, record.state.value, reason), newest)["number"] += 1
    return sorted(rows.values(), key=lambda row: -row["number"])
