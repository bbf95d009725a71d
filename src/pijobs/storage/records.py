"""Records of instances, groups and the whole queue, for people. Plain values, as in
:mod:`pijobs.storage.values`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pijobs.jobs import State
from pijobs.storage.values import Ended, LossKind, Pause


@dataclass(frozen=True, slots=True)
class Fault:
    """Something inconsistent in the storage."""

    #: The id of an instance, or what else it is about.
    id: str
    what: str
    mended: bool


@dataclass(frozen=True, slots=True)
class Audit:
    """What a part of an audit found."""

    faults: list[Fault] = field(default_factory=list)
    #: Transitions that the repair made.
    ended: list[Ended] = field(default_factory=list)
    #: Whether it was the last part.
    last: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that is kept of an instance, for people, without its body."""

    id: str
    name: str
    state: State
    group: str
    priority: int
    created: int
    deadline: int | None
    #: Next start for ``queued`` and ``scheduled``.
    due: int
    #: Counted attempts.
    attempts: int
    crashes: int
    #: Last lease and end; None before.
    started: int | None
    ended: int | None
    #: Why it waits or how it ended.
    reason: str | None
    error: str | None
    session: str | None
    #: JSON objects, oldest first.
    history: tuple[str, ...]
    envelope: bytes
    #: Whether the body is still there (it goes when the instance ends).
    has_body: bool
    #: What the instance is about, masked; None for one that a release before 0.2.0 stored.
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and the cursor for the next ones (None: there are no more)."""

    records: list[Record]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """What the storage knows of a group. The policy lives in :mod:`pijobs.execution.groups`."""

    name: str
    running: int
    waiting: int
    limit: int | None
    #: Nothing of this group is leased before this time.
    blocked_until: int | None
    pause: Pause | None
    #: Memory of the policy; opaque here.
    policy: str
    #: Grows with every :meth:`Storage.set_group`.
    version: int

    @property
    def paused(self) -> bool:
        return self.pause is not None


@dataclass(frozen=True, slots=True)
class Loss:
    """A live worker noticed that the storage lost acknowledged data."""

    #: Everything, or what was stored after a backup or a replica's last update.
    kind: LossKind
    #: When a worker noticed.
    at: int


@dataclass(frozen=True, slots=True)
class Depths:
    """Numbers of instances, without a scan."""

    #: (job name, state) -> number of instances.
    counts: Mapping[tuple[str, State], int]
    #: The due time of the longest waiting ``queued`` instance, by job name.
    oldest_due: Mapping[str, int]
    pause: Pause | None
    #: The last sign of life of any worker; None: there was none.
    worker_seen: int | None
    #: Instances that housekeeping should have expired or removed by now; counted up to :data:`MOST_COUNTED` where
    #: counting is slow.
    backlog: int = 0
    #: Names of totals; :data:`MAX_TOTALS` at most are taken.
    totals: int = 0
    #: The last loss given to :meth:`Storage.note_loss`.
    loss: Loss | None = None
    #: By group, "" for the whole queue: who bypasses it, when and why; see :meth:`Storage.bypass`.
    bypasses: Mapping[str, Pause] = field(default_factory=dict)

    @property
    def paused(self) -> bool:
        return self.pause is not None
