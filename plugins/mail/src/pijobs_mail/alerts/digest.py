"""A summary of the failures in a period, read from the queue's records, for mail and webhook.

It contains no secrets: reasons were redacted before they were stored, labels are masked.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pijobs import State
from pijobs.errors import PijobsError
from pijobs.observe.instances import explained
from pijobs.observe.lists import listing
from pijobs.request.queue import Queue

#: States of instances that ended without their effect.
FAILED = (State.DEAD, State.EXPIRED)
#: The most instances per state that one digest reads, and the most kinds of failure that it lists.
MOST = 1000
MOST_KINDS = 20
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Kind:
    """The failures of one job, group, state and class of error.

    :ivar reason: of the newest failure, like ``id``, ``ended`` and ``label``.
    """

    job: str
    group: str
    state: str
    error: str | None
    count: int
    reason: str | None
    id: str
    ended: str
    label: str | None


@dataclass(frozen=True, slots=True)
class Digest:
    """The failures between two moments.

    :ivar complete: False if there were more than a digest reads.
    """

    queue: str
    since: dt.datetime
    until: dt.datetime
    count: int
    complete: bool
    kinds: tuple[Kind, ...]

    @property
    def title(self) -> str:
        number = f"{self.count}" if self.complete else f"more than {self.count}"
        return f"[pijobs {self.queue}] {number} failed"

    def lines(self) -> Iterator[str]:
        """The digest for people."""
        yield f"{self.title} from {self.since:%Y-%m-%d %H:%M:%S} to {self.until:%Y-%m-%d %H:%M:%S} UTC."
        for kind in self.kinds[:MOST_KINDS]:
            yield ""
            yield f"{kind.count} x {kind.job} {kind.state} (group {kind.group}): {kind.reason or 'no reason is known'}"
            yield f"  the newest: {kind.ended} {kind.id}" + (f" ({kind.label})" if kind.label else "")
        if len(self.kinds) > MOST_KINDS:
            yield f"\nand {len(self.kinds) - MOST_KINDS} other kinds of failure"
        yield "\n'pijobs jobs show ID' shows one of them, 'pijobs status' all."

    def as_json(self) -> dict[str, Any]:
        """For a webhook. ``text`` is what chat servers show."""
        return {
            "text": "\n".join(self.lines()),
            "queue": self.queue,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "count": self.count,
            "complete": self.complete,
            "failures": [asdict(kind) for kind in self.kinds[:MOST_KINDS]],
        }


def collect(queue: Queue, since: dt.datetime, until: dt.datetime, *, leave_out: str) -> Digest:
    """Collect the failures with ``since <= ended < until``.

    :param leave_out: a job whose failures are not reported: the digest job itself.
    :raises StorageUnavailable: if the storage does not answer.
    """
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    count, complete = 0, True
    for state in FAILED:
        for seen, row in enumerate(_ended_since(queue, state, since)):
            if seen == MOST:
                complete = False
                break
            if row["name"] != leave_out and parse(row["ended"]) < until:
                count += 1
                found.setdefault((row["name"], row["group"], row["state"], row["error"]), []).append(row)
    kinds = sorted((_kind(queue, rows) for rows in found.values()), key=lambda kind: -kind.count)
    return Digest(queue.settings.name, since, until, count, complete, tuple(kinds))


def parse(moment: str) -> dt.datetime:
    """A moment as :mod:`pijobs.observe.instances` writes it."""
    return dt.datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S.%f%z")


def _ended_since(queue: Queue, state: State, since: dt.datetime) -> Iterator[dict[str, Any]]:
    """The newest first."""
    cursor: str | None = None
    while True:
        rows, cursor = listing(queue, state=state, cursor=cursor, limit=_PAGE)
        for row in rows:
            if parse(row["ended"]) < since:
                return
            yield row
        if cursor is None:
            return


def _kind(queue: Queue, rows: list[dict[str, Any]]) -> Kind:
    newest = rows[0]
    return Kind(
        job=newest["name"], group=newest["group"], state=newest["state"], error=newest["error"], count=len(rows),
        reason=newest["reason"], id=newest["id"], ended=newest["ended"], label=_label(queue, newest["id"]),
    )  # fmt: skip


def _label(queue: Queue, instance_id: str) -> str | None:
    try:
        label: str | None = explained(queue, instance_id)["label"]
    except PijobsError:  # trimmed or removed meanwhile
        return None
    return label
