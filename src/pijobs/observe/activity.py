"""What the last hour brought: how fast jobs were done, and which failed for what reason.

It is read from the records of the newest ended instances, so that the answer is the same in every process and costs the
same however many there are; a busy queue is told by a span that is shorter than an hour. Values as in
:mod:`pijobs.observe.status`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pijobs.jobs import State
from pijobs.observe.selection import without_addresses
from pijobs.observe.status import age, moment
from pijobs.storage.contract import Record, Storage

SPAN = 3_600_000  # ms
#: Records that are read of each kind of end.
SAMPLE = 100
#: Steps of the plots.
BINS = 40


def recent(storage: Storage) -> dict[str, Any]:
    """The newest ends of the last hour.

    ``span`` is how many seconds the sample covers, ``bins`` cuts it into equal steps, oldest first; ``jobs`` tells the
    seconds from enqueue to done (median and 95th percentile), ``speed`` those of all jobs (None: none was done);
    ``failures`` counts by job, state and reason, and is cut short if ``failures_cut``.

    :raises StorageUnavailable: when the storage does not answer.
    """
    done, cut = _newest(storage, State.DONE)
    dead, dead_cut = _newest(storage, State.DEAD)
    expired, expired_cut = _newest(storage, State.EXPIRED)
    now, failed = storage.now(), dead + expired
    span = _span(now, done, cut)
    return {
        "span": span / 1000,
        "bins": _bins(now, span, done, failed),
        "speed": _speed(now, done) if done else None,
        "jobs": {name: _speed(now, records) for name, records in _by_name(done).items()},
        "failures": by_reason(now, failed),
        "failed": len(failed),
        "failures_cut": dead_cut or expired_cut,
    }


def _newest(storage: Storage, state: State) -> tuple[list[Record], bool]:
    """The newest that ended so within the hour, and whether there are more of them."""
    page = storage.page(state, limit=SAMPLE)
    since = storage.now() - SPAN
    records = [record for record in page.records if _ended(record) >= since]
    return records, page.cursor is not None and len(records) == len(page.records)


def _ended(record: Record) -> int:
    return record.ended or 0


def _span(now: int, done: Sequence[Record], cut: bool) -> int:
    return max(1000, now - _ended(done[-1])) if cut else SPAN


def _bins(now: int, span: int, done: Iterable[Record], failed: Iterable[Record]) -> list[dict[str, Any]]:
    took: list[list[float]] = [[] for _ in range(BINS)]
    failures = [0] * BINS
    for record in done:
        took[_bin(record, now, span)].append(_took(record))
    for record in failed:
        if now - _ended(record) <= span:
            failures[_bin(record, now, span)] += 1
    return [
        {
            "done": len(each),
            "failed": number,
            "median": _quantile(each, 0.5) if each else None,
            "late": _quantile(each, 0.95) if each else None,
        }
        for each, number in zip(took, failures, strict=True)
    ]


def _bin(record: Record, now: int, span: int) -> int:
    place = BINS - 1 - (now - _ended(record)) * BINS // span
    return min(BINS - 1, max(0, place))


def _took(record: Record) -> float:
    return age(record.created, _ended(record))


def _by_name(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.name, []).append(record)
    return dict(sorted(found.items()))


def _speed(now: int, records: Sequence[Record]) -> dict[str, Any]:
    took = [_took(record) for record in records]
    return {
        "done": len(records),
        "median": _quantile(took, 0.5),
        "late": _quantile(took, 0.95),
        "last_age": age(max(map(_ended, records)), now),
    }


def _quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that so great a share does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def by_reason(now: int, failed: Iterable[Record]) -> list[dict[str, Any]]:
    """Failures by job, state and reason, the most frequent first. Recipients do not make a reason another one.

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
